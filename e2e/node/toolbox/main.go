// Command toolbox is the program inside the test image and in the namespace that plays the Internet:
// what a pod does in a scenario, what answers it, and what counts the packets that arrived.
// Nothing here knows of Yellowjack or of Kubernetes. Each part is a file; build.sh builds it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
)

// A part reads its own arguments, and ends when the context does.
type part struct {
	run  func(ctx context.Context, arguments []string) error
	help string
}

var parts = map[string]part{
	"burn":         {burn, "keep a share of the processors busy"},
	"certificates": {certificates, "write a CA and certificates for a test cluster"},
	"connect":      {connect, "open TCP connections to every address of a network, at a pace"},
	"get":          {get, "send HTTP requests, and say how often that worked"},
	"hold":         {hold, "open one TCP connection, send a line at a pace, and say what comes back"},
	"mine":         {mine, "speak Stratum as a miner does"},
	"pause":        {pause, "wait for a signal"},
	"pool":         {pool, "speak Stratum as a pool does"},
	"serve":        {serve, "serve files of random bytes over HTTP"},
	"sniff":        {sniff, "write one JSON line per packet that arrives at an interface"},
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]].run == nil {
		fmt.Fprintf(os.Stderr, "usage: toolbox %s [arguments]\n", strings.Join(names(), "|"))
		for _, name := range names() {
			fmt.Fprintf(os.Stderr, "  %-14s%s\n", name, parts[name].help)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	name := os.Args[1]
	if err := parts[name].run(ctx, os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "toolbox %s: %v\n", name, err)
		os.Exit(1)
	}
}

func names() []string {
	all := make([]string, 0, len(parts))
	for name := range parts {
		all = append(all, name)
	}
	sort.Strings(all)
	return all
}

func pause(ctx context.Context, _ []string) error {
	<-ctx.Done()
	return nil
}
