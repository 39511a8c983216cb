"""The registry's storage: a small typed client of etcd v3, following prefixes, sessions, elections, keys, values."""

from isthmus_controller.store.client import EtcdClient
from isthmus_controller.store.codec import decode, encode
from isthmus_controller.store.connection import Target, TlsFiles
from isthmus_controller.store.election import Election, Leadership
from isthmus_controller.store.errors import Compacted, Fenced, LeaseLost, OutcomeUnknown, WrongCluster
from isthmus_controller.store.fence import Fence, stood
from isthmus_controller.store.follow import Follower, FollowState
from isthmus_controller.store.keys import (
    AuditKey,
    ClusterKey,
    ElectionKey,
    EndpointsKey,
    ExportKey,
    GatewayKey,
    Key,
    Keys,
    PolicyKey,
    SessionKey,
    TokenKey,
    TrustKey,
)
from isthmus_controller.store.replica import Batch, Held, Origin
from isthmus_controller.store.session import Session
from isthmus_controller.store.values import (
    Change,
    Compare,
    Delete,
    Get,
    KeyValue,
    Put,
    Snapshot,
    TxnResult,
    Written,
    absent,
    created_at,
    holds,
    present,
    unchanged,
)

__all__ = [
    "AuditKey",
    "Batch",
    "Change",
    "ClusterKey",
    "Compacted",
    "Compare",
    "Delete",
    "Election",
    "ElectionKey",
    "EndpointsKey",
    "EtcdClient",
    "ExportKey",
    "Fence",
    "Fenced",
    "FollowState",
    "Follower",
    "GatewayKey",
    "Get",
    "Held",
    "Key",
    "KeyValue",
    "Keys",
    "Leadership",
    "LeaseLost",
    "Origin",
    "OutcomeUnknown",
    "PolicyKey",
    "Put",
    "Session",
    "SessionKey",
    "Snapshot",
    "Target",
    "TlsFiles",
    "TokenKey",
    "TrustKey",
    "TxnResult",
    "WrongCluster",
    "Written",
    "absent",
    "created_at",
    "decode",
    "encode",
    "holds",
    "present",
    "stood",
    "unchanged",
]
