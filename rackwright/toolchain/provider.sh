#!/bin/sh
# Start the provider with an interpreter, the first argument. Pulumi starts this script by .rackwright/bin of a project.
python=$1
shift
export GRPC_VERBOSITY="${GRPC_VERBOSITY:-ERROR}"  # Pulumi shows every line of our stderr as a message
# Ansible is started by fork and exec: gRPC's own thread would crash in between, now and then (grpc/grpc#43055)
export GRPC_ENABLE_FORK_SUPPORT=false
unset PULUMI_CONFIG PULUMI_CONFIG_PASSPHRASE  # secrets come by Configure: no process of ours shall have one around it
exec "$python" -u -P -m rackwright.provider "$@"  # -P: the project may have packages with any name
