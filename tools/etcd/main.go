// Command etcd is etcd itself, built from its Go module.
//
// `go install go.etcd.io/etcd/server/v3@version` is refused, because that module's go.mod has replace directives;
// a module of our own that calls etcdmain is not, and go.sum pins every dependency.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
