package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/pulumi/pulumi/pkg/v3/codegen/nodejs"
	"github.com/pulumi/pulumi/pkg/v3/codegen/pcl"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
	"github.com/pulumi/pulumi/sdk/v3/nodejs/npm"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

type nodejsLanguage struct{}

func (nodejsLanguage) program(program *pcl.Program) (map[string][]byte, hcl.Diagnostics, error) {
	return nodejs.GenerateProgram(program)
}

func (nodejsLanguage) sdk(
	pkg *schema.Package, request *pulumirpc.GeneratePackageRequest, loader schema.ReferenceLoader,
) (map[string][]byte, error) {
	return nodejs.GeneratePackage(
		"pulumi-language-nodejs", pkg, request.ExtraFiles, request.LocalDependencies, request.Local, loader)
}

func (nodejsLanguage) link(
	ctx context.Context, program *pulumirpc.ProgramInfo, sdk *pulumirpc.LinkRequest_LinkDependency,
) (string, error) {
	manager, err := npm.ResolvePackageManager(npm.AutoPackageManager, program.RootDirectory)
	if err != nil {
		return "", err
	}
	manifest, _, err := npm.ReadPackageManifest(filepath.Join(program.RootDirectory, sdk.Path))
	if err != nil {
		return "", err
	}
	name := fmt.Sprint(manifest["name"])
	line := fmt.Sprintf("import * as %s from %q;", sdk.Package.Name, name)
	return line, manager.Link(ctx, program.RootDirectory, name, sdk.Path)
}

func (nodejsLanguage) install(ctx context.Context, program *pulumirpc.ProgramInfo, stdout, stderr io.Writer) error {
	_, err := npm.Install(ctx, npm.AutoPackageManager, program.ProgramDirectory, false, stdout, stderr)
	return err
}
