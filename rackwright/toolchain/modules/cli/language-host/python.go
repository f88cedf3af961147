package main

import (
	"context"
	"fmt"
	"io"

	"github.com/hashicorp/hcl/v2"
	"github.com/pulumi/pulumi/pkg/v3/codegen/pcl"
	"github.com/pulumi/pulumi/pkg/v3/codegen/python"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"github.com/pulumi/pulumi/sdk/v3/python/toolchain"
)

type pythonLanguage struct{}

func (pythonLanguage) program(program *pcl.Program) (map[string][]byte, hcl.Diagnostics, error) {
	return python.GenerateProgram(program)
}

func (pythonLanguage) sdk(
	pkg *schema.Package, request *pulumirpc.GeneratePackageRequest, loader schema.ReferenceLoader,
) (map[string][]byte, error) {
	return python.GeneratePackage("pulumi-language-python", pkg, request.ExtraFiles, loader)
}

func (pythonLanguage) link(
	ctx context.Context, program *pulumirpc.ProgramInfo, sdk *pulumirpc.LinkRequest_LinkDependency,
) (string, error) {
	tools, err := pythonTools(program)
	if err != nil {
		return "", err
	}
	name := python.PyPack("", sdk.Package.Name)
	return fmt.Sprintf("import %s", name), tools.LinkPackages(ctx, map[string]string{name: sdk.Path})
}

func (pythonLanguage) install(ctx context.Context, program *pulumirpc.ProgramInfo, stdout, stderr io.Writer) error {
	tools, err := pythonTools(program)
	if err != nil {
		return err
	}
	return tools.InstallDependencies(ctx, program.ProgramDirectory, false, true, stdout, stderr)
}

func pythonTools(program *pulumirpc.ProgramInfo) (toolchain.Toolchain, error) {
	return toolchain.ResolveToolchain(toolchain.PythonOptions{
		Root:       program.RootDirectory,
		ProgramDir: program.ProgramDirectory,
		Virtualenv: program.Options.GetFields()["virtualenv"].GetStringValue(),
	})
}
