// A language host that generates code and installs packages with Pulumi's own libraries. It passes all other calls on
// to the language host in runtime/ beside it, which runs programs: its last version in a Go module does not know these
// calls. The name of the program, pulumi-language-NAME, selects the language.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

var languages = map[string]language{"pulumi-language-nodejs": nodejsLanguage{}, "pulumi-language-python": pythonLanguage{}}

// answered has the calls that this program does not pass on.
var answered = []string{"GeneratePackage", "GenerateProgram", "InstallDependencies", "Link"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run starts the language host in runtime/, and answers calls until it ends, which it does with the engine.
func run() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	name := filepath.Base(self)
	if languages[name] == nil {
		return fmt.Errorf("%s is not the name of a language host", name)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts the process
	command := exec.Command(filepath.Join(filepath.Dir(self), "runtime", name), os.Args[1:]...)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(output)
	port, err := lines.ReadString('\n')
	if err != nil {
		return errors.Join(err, command.Wait())
	}
	if err := serve(strings.TrimSpace(port), languages[name]); err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, lines) // the engine shows what programs print
	return errors.Join(err, command.Wait())
}

// serve starts to answer calls, and prints the port for the engine.
func serve(runtimePort string, of language) error {
	connection, err := grpc.NewClient("127.0.0.1:"+runtimePort,
		grpc.WithTransportCredentials(insecure.NewCredentials()), rpcutil.GrpcChannelOptions())
	if err != nil {
		return err
	}
	service := pulumirpc.LanguageRuntime_ServiceDesc
	service.Methods = slices.DeleteFunc(slices.Clone(service.Methods), func(method grpc.MethodDesc) bool {
		return !slices.Contains(answered, method.MethodName)
	})
	service.Streams = slices.DeleteFunc(slices.Clone(service.Streams), func(stream grpc.StreamDesc) bool {
		return !slices.Contains(answered, stream.StreamName)
	})
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Init: func(server *grpc.Server) error {
			server.RegisterService(&service, &languageHost{language: of})
			return nil
		},
		Options: []grpc.ServerOption{grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			return passOn(connection, stream)
		})},
	})
	if err == nil {
		fmt.Println(handle.Port)
	}
	return err
}

// passOn sends one request to the runtime, and all its answers back. A message without fields keeps those of any other.
func passOn(connection *grpc.ClientConn, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	request := new(emptypb.Empty)
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	call, err := connection.NewStream(stream.Context(), &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := errors.Join(call.SendMsg(request), call.CloseSend()); err != nil {
		return err
	}
	for {
		response := new(emptypb.Empty)
		if err := call.RecvMsg(response); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(response); err != nil {
			return err
		}
	}
}
