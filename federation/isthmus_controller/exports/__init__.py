"""The Exports service: what clusters offer goes into etcd, and is acknowledged when it stands there."""

from isthmus_controller.exports.committer import CommitStats, Committer
from isthmus_controller.exports.intake import Exports

__all__ = ["CommitStats", "Committer", "Exports"]
