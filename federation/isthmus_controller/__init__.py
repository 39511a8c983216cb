"""The federation controller: registry, trust service and admin API over one etcd."""
