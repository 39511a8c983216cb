// Command coredns is CoreDNS with the plugins that the DNS bench compares with, built from its Go module.
//
// Its own main package compiles every plugin in, the clients of four clouds among them; these answer from a zone file
// as fast as CoreDNS can, and go.sum pins every dependency. What a CoreDNS in a cluster has to forward with is there for
// the tests of the lines in docs/dns.md.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/minimal"
	_ "github.com/coredns/coredns/plugin/reload"

	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
