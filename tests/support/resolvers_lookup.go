// Command lookup resolves a name with Go's own resolver, as every Go program without cgo does.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"time"
)

func main() {
	resolver := net.Resolver{PreferGo: true, StrictErrors: true}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	sort.Strings(addresses)
	for _, address := range addresses {
		fmt.Println(address)
	}
	_, services, err := resolver.LookupSRV(ctx, "http", "tcp", os.Args[1])
	for _, service := range services {
		fmt.Println(service.Target, service.Port)
	}
	if err != nil {
		fmt.Println(err)
	}
}
