package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pulumi/pulumi/pkg/v3/codegen/hcl2/syntax"
	"github.com/pulumi/pulumi/pkg/v3/codegen/pcl"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/proto/go/codegen"
)

// language is what differs between languages.
type language interface {
	// program returns the files of a program, by path.
	program(program *pcl.Program) (map[string][]byte, hcl.Diagnostics, error)
	// sdk returns the files of a package's SDK, by path.
	sdk(pkg *schema.Package, request *pulumirpc.GeneratePackageRequest, loader schema.ReferenceLoader) (map[string][]byte, error)
	// link adds an SDK to the dependencies of a program, and returns the line that imports it.
	link(ctx context.Context, program *pulumirpc.ProgramInfo, sdk *pulumirpc.LinkRequest_LinkDependency) (string, error)
	// install installs the dependencies of a program.
	install(ctx context.Context, program *pulumirpc.ProgramInfo, stdout, stderr io.Writer) error
}

// languageHost answers the calls that the runtime does not know.
type languageHost struct {
	pulumirpc.UnimplementedLanguageRuntimeServer
	language language
}

func (host *languageHost) GenerateProgram(
	_ context.Context, request *pulumirpc.GenerateProgramRequest,
) (*pulumirpc.GenerateProgramResponse, error) {
	loader, err := schema.NewLoaderClient(request.LoaderTarget)
	if err != nil {
		return nil, err
	}
	parser := syntax.NewParser()
	for path, text := range request.Source {
		if err := parser.ParseFile(strings.NewReader(text), path); err != nil {
			return nil, err
		}
	}
	if parser.Diagnostics.HasErrors() {
		return &pulumirpc.GenerateProgramResponse{Diagnostics: toRPC(parser.Diagnostics)}, nil
	}
	options := []pcl.BindOption{pcl.PreferOutputVersionedInvokes}
	if !request.Strict {
		options = append(options, pcl.NonStrictBindOptions()...)
	}
	program, diagnostics, err := pcl.BindProgram(parser.Files, schema.NewCachedLoader(loader), options...)
	if err != nil || diagnostics.HasErrors() {
		return &pulumirpc.GenerateProgramResponse{Diagnostics: toRPC(diagnostics)}, err
	}
	files, more, err := host.language.program(program)
	return &pulumirpc.GenerateProgramResponse{Source: files, Diagnostics: toRPC(append(diagnostics, more...))}, err
}

func (host *languageHost) GeneratePackage(
	_ context.Context, request *pulumirpc.GeneratePackageRequest,
) (*pulumirpc.GeneratePackageResponse, error) {
	loader, err := schema.NewLoaderClient(request.LoaderTarget)
	if err != nil {
		return nil, err
	}
	var spec schema.PackageSpec
	if err := json.Unmarshal([]byte(request.Schema), &spec); err != nil {
		return nil, err
	}
	pkg, diagnostics, err := schema.BindSpec(spec, loader, schema.ValidationOptions{AllowDanglingReferences: true})
	if err != nil || diagnostics.HasErrors() {
		return &pulumirpc.GeneratePackageResponse{Diagnostics: toRPC(diagnostics)}, err
	}
	files, err := host.language.sdk(pkg, request, loader)
	for name, data := range files {
		path := filepath.Join(request.Directory, name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
	}
	return &pulumirpc.GeneratePackageResponse{Diagnostics: toRPC(diagnostics)}, err
}

func (host *languageHost) Link(
	ctx context.Context, request *pulumirpc.LinkRequest,
) (*pulumirpc.LinkResponse, error) {
	lines := []string{"Import the SDK with:"}
	for _, sdk := range request.Packages {
		line, err := host.language.link(ctx, request.Info, sdk)
		if err != nil {
			return nil, err
		}
		lines = append(lines, "  "+line)
	}
	return &pulumirpc.LinkResponse{ImportInstructions: strings.Join(lines, "\n")}, nil
}

func (host *languageHost) InstallDependencies(
	request *pulumirpc.InstallDependenciesRequest, server pulumirpc.LanguageRuntime_InstallDependenciesServer,
) error {
	streams, stdout, stderr, err := rpcutil.MakeInstallDependenciesStreams(server, request.IsTerminal)
	if err != nil {
		return err
	}
	return errors.Join(host.language.install(server.Context(), request.Info, stdout, stderr), streams.Close())
}

func toRPC(diagnostics hcl.Diagnostics) []*codegen.Diagnostic {
	var converted []*codegen.Diagnostic
	for _, diagnostic := range diagnostics {
		converted = append(converted, plugin.HclDiagnosticToRPCDiagnostic(diagnostic))
	}
	return converted
}
