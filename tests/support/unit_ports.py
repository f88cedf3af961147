"""The ports that each service unit of rackwright may open, by its template: data for the test of all units."""

from collections.abc import Mapping

NONE, CLIENT, OWN, TABLE = "none", "client", "own", "table"
"""No network; connections to others, and no port; ports of its declaration alone; a table closes all other ports."""
UNITS = "etc/systemd/system"
PORTS: Mapping[str, tuple[str, str]] = {
    f"access/{UNITS}/rackwright-log-chain.service.j2": (NONE, "reads and writes files"),
    f"container_runtime/{UNITS}/rackwright-cdi.service.j2": (NONE, "writes a file"),
    f"device_plugin/{UNITS}/rackwright-device-plugin.service.j2": (NONE, "answers kubelet on a Unix socket"),
    f"jetson/{UNITS}/rackwright-jetson-clocks.service.j2": (NONE, "sets clocks"),
    f"kubernetes_control_plane/{UNITS}/rackwright-kubernetes-certificates.service.j2": (CLIENT, "asks the API"),
    f"kubernetes_control_plane/{UNITS}/rackwright-kubernetes-snapshot.service.j2": (CLIENT, "asks etcd"),
    f"kubernetes_node/{UNITS}/rackwright-kubernetes-routes.service.j2": (NONE, "asks the kernel by netlink"),
    f"kubernetes_node/{UNITS}/rackwright-kubernetes-teams.service.j2": (NONE, "loads rules by netlink"),
    f"load_balancer/{UNITS}/rackwright-load-balancer.service.j2": (OWN, "nginx: the ports of its services"),
    f"alertmanager/{UNITS}/rackwright-alertmanager.service.j2": (OWN, "port of the role on loopback; certificates"),
    f"gpu_exporter/{UNITS}/rackwright-gpu-metrics.service.j2": (NONE, "reads NVML and writes a file"),
    f"drive_exporter/{UNITS}/rackwright-drive-metrics.service.j2": (NONE, "reads drives and writes a file"),
    f"service_exporter/{UNITS}/rackwright-service-metrics@.service.j2": (NONE, "answers the proxy on a Unix socket"),
    f"health_exporter/{UNITS}/rackwright-health-metrics@.service.j2": (CLIENT, "asks services of its host"),
    f"scheduled_audit/{UNITS}/rackwright-audit.service.j2": (CLIENT, "logs in to hosts"),
    f"scheduled_audit/{UNITS}/rackwright-audit-metrics@.service.j2": (NONE, "answers the proxy on a Unix socket"),
    f"cluster_exporter/{UNITS}/rackwright-cluster-metrics.service.j2": (CLIENT, "asks the API"),
    f"metrics_proxy/{UNITS}/rackwright-metrics-proxy.service.j2": (OWN, "nginx: address and port of the role"),
    f"prometheus/{UNITS}/rackwright-prometheus.service.j2": (OWN, "port of the role on loopback; certificates"),
    f"mlflow/{UNITS}/mlflow-accounts.service.j2": (CLIENT, "asks MLflow on loopback"),
    f"mlflow/{UNITS}/mlflow.service.j2": (OWN, "MLflow: listen_address and port"),
    f"model_server/{UNITS}/server.service.j2": (TABLE, "port of the server; a table if it runs vLLM"),
    f"model_server/{UNITS}/watch.service.j2": (CLIENT, "asks the server on its Unix socket"),
    f"node_exporter/{UNITS}/rackwright-node-exporter.service.j2": (OWN, "address and port, or a Unix socket of root's"),
    f"nvidia_driver/{UNITS}/rackwright-gpus.service.j2": (NONE, "sets GPUs"),
    f"object_store/{UNITS}/object-store-filer.service.j2": (OWN, "address of the role; certificates of both sides"),
    f"object_store/{UNITS}/object-store-master.service.j2": (OWN, "address of the role; certificates of both sides"),
    f"object_store/{UNITS}/object-store-names.service.j2": (OWN, "address of the role; certificates of both sides"),
    f"object_store/{UNITS}/object-store-s3.service.j2": (OWN, "address of the role; keys of S3"),
    f"object_store/{UNITS}/object-store-volume.service.j2": (OWN, "address of the role; certificates of both sides"),
    f"pods/{UNITS}/pods-mount.service.j2": (NONE, "mounts a directory"),
    f"rdma/{UNITS}/rackwright-acs.service.j2": (NONE, "sets PCI functions"),
    f"registry/{UNITS}/registry-collect.service.j2": (CLIENT, "removes files of the registry"),
    f"registry/{UNITS}/registry-readers.service.j2": (OWN, "port of the role; TLS and passwords"),
    f"registry/{UNITS}/registry.service.j2": (OWN, "port of the role; TLS and passwords"),
    f"tier/{UNITS}/scrub.service.j2": (NONE, "asks md"),
    f"tier/{UNITS}/unlock.service.j2": (NONE, "opens drives"),
    f"training_run/{UNITS}/door.service.j2": (TABLE, "sshd, torch and NCCL for the hosts of the run"),
    f"training_run/{UNITS}/run.service.j2": (TABLE, "torch and NCCL for the hosts of the run"),
    "guard": (NONE, "runs for seconds, and starts no program that listens"),
}
