"""Write type stubs for the generated messages that ship without any: Envoy's (xds-protos), google.rpc, etcd's (aetcd).

The packages carry no .proto files, but every generated module carries its descriptor. Protoc reads descriptors as well
as sources, so the stubs come from exactly the messages that are installed. They go to build/stubs, mypy's search path.
"""

import hashlib
import importlib
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_tools import protoc  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "build" / "stubs"
# What the product may speak; the descriptors of everything they refer to come along.
WANTED = (
    "envoy/",
    "google/rpc/status_pb2.py",
    "google/rpc/code_pb2.py",
    "google/rpc/error_details_pb2.py",
    "xds/",
    "udpa/",
    "validate/",
)
SHAPE = {False: "Unary", True: "Stream"}
PACKAGES = ("aetcd", "grpcio-tools", "xds-protos")


def modules() -> Iterator[str]:
    """The import names of the generated modules that the product may use."""
    for file in metadata.files("xds-protos") or ():
        if file.name.endswith("_pb2.py") and str(file).startswith(WANTED):
            yield str(file.with_suffix("")).replace("/", ".")


def closure(names: Iterator[str]) -> descriptor_pb2.FileDescriptorSet:
    """The descriptors of these modules and of everything they import, dependencies first, as protoc wants them."""
    pool = descriptor_pool.Default()
    seen: set[str] = set()
    answer = descriptor_pb2.FileDescriptorSet()

    def add(file: str) -> None:
        if file in seen:
            return
        seen.add(file)
        descriptor = pool.FindFileByName(file)
        for dependency in descriptor.dependencies:
            add(dependency.name)
        descriptor.CopyToProto(answer.file.add())

    for name in names:
        add(importlib.import_module(name).DESCRIPTOR.name)
    return answer


def etcd_messages() -> descriptor_pb2.FileDescriptorSet:
    """etcd's messages, renamed to where aetcd keeps them (their own descriptors say `rpc.proto`, without a folder)."""
    answer = closure(iter(f"aetcd.rpc.{name}_pb2" for name in ("auth", "kv", "rpc")))
    for file in answer.file:
        file.name = f"aetcd/rpc/{file.name}"
        file.dependency[:] = [f"aetcd/rpc/{name}" for name in file.dependency]
    return answer


def etcd_client_stubs(descriptors: descriptor_pb2.FileDescriptorSet, into: Path) -> None:
    """Write aetcd/rpc/rpc_pb2_grpc.pyi: each service's methods as grpc.aio calls with their messages."""
    lines = ["import grpc.aio", "from . import rpc_pb2", ""]
    for service in (service for file in descriptors.file for service in file.service):
        lines += [f"class {service.name}Stub:", "    def __init__(self, channel: grpc.aio.Channel) -> None: ..."]
        for method in service.method:
            shape = f"{SHAPE[method.client_streaming]}{SHAPE[method.server_streaming]}MultiCallable"
            ends = ", ".join("rpc_pb2." + end.rpartition(".")[2] for end in (method.input_type, method.output_type))
            lines.append(f"    {method.name}: grpc.aio.{shape}[{ends}]")
    package = into / "aetcd" / "rpc"
    (package / "rpc_pb2_grpc.pyi").write_text("\n".join(lines) + "\n")
    names = ("auth_pb2", "kv_pb2", "rpc_pb2", "rpc_pb2_grpc")
    (package / "__init__.pyi").write_text("".join(f"from .{name} import *\n" for name in names))


def generate(descriptors: descriptor_pb2.FileDescriptorSet, into: Path) -> int:
    """Run protoc over the descriptors and give each stub folder that is a package its __init__.pyi."""
    into.mkdir(parents=True, exist_ok=True)
    bundle = into / "descriptors.bin"
    bundle.write_bytes(descriptors.SerializeToString())
    # types-protobuf brings google/protobuf; a second copy here would hide it.
    files = [f.name for f in descriptors.file if not f.name.startswith("google/protobuf/")]
    status = protoc.main(["protoc", f"--descriptor_set_in={bundle}", f"--pyi_out={into}", *files])
    if status != 0:
        sys.exit("stubs: protoc failed; see the lines above")
    for name in files:
        stub = (into / name).with_name(PurePosixPath(name).stem.replace("-", "_") + "_pb2.pyi")
        # Protoc leaves a few type arguments out; what it does say is right.
        stub.write_text("# mypy: ignore-errors\n" + stub.read_text())
        for folder in PurePosixPath(stub.relative_to(into)).parents:
            # `google` stays a namespace that several stub packages share.
            if str(folder) not in (".", "google"):
                (into / folder / "__init__.pyi").touch()
    return len(files)


def main() -> None:
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES]
    wanted = hashlib.sha256("\n".join([*versions, Path(__file__).read_text()]).encode()).hexdigest()
    stamp = STUBS / "stamp"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    count = generate(closure(modules()), STUBS)
    etcd = etcd_messages()
    count += generate(etcd, STUBS)
    etcd_client_stubs(etcd, STUBS)
    stamp.write_text(wanted)
    print(f"stubs: {count} files in build/stubs ({time.monotonic() - started:.1f} s)", file=sys.stderr)


if __name__ == "__main__":
    main()
