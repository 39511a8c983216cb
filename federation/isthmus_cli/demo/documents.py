"""The service documents of the demo's clusters, as a person would write them."""

from pathlib import Path

from isthmus_cli.demo.ports import Ports
from isthmus_cli.demo.world import Place

_ECHO = """\
apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {{ namespace: shop, name: echo }}
spec:
  ports:
  - {{ name: http, port: {port} }}
  endpoints:
  - address: {address}
  healthCheck:
    http: {{ path: / }}
"""

_GREETER = """\
apiVersion: isthmus.dev/v1alpha1
kind: Service
metadata: {{ namespace: shop, name: greeter }}
spec:
  ports:
  - {{ name: tcp, port: {port} }}
  endpoints:
  - address: {address}
"""


def write_documents(folder: Path, place: Place, ports: Ports) -> None:
    """Describe the samples of `place`: the HTTP echo and the TCP greeter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "echo.yaml").write_text(_ECHO.format(port=ports.http, address=place.sample), encoding="utf-8")
    (folder / "greeter.yaml").write_text(_GREETER.format(port=ports.tcp, address=place.sample), encoding="utf-8")
