"""What runs on the GPUs. Knows nothing of Pulumi, Ansible or rackwright."""
