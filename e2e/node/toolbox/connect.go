package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	connectAddressesMax = 1 << 16
	connectAtOnceMax    = 256
)

// connect is a scan without nmap: one connection attempt per address and port, in order.
func connect(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("connect", flag.ExitOnError)
	ports := flags.String("ports", "22", "ports, with commas between")
	interval := flags.Duration("interval", 0, "time between two attempts")
	timeout := flags.Duration("timeout", time.Second, "time limit of one attempt")
	_ = flags.Parse(arguments)
	var targets []string
	for _, network := range flags.Args() {
		prefix, err := parseNetwork(network)
		if err != nil {
			return err
		}
		for address := prefix.Masked().Addr(); prefix.Contains(address); address = address.Next() {
			for _, port := range strings.Split(*ports, ",") {
				targets = append(targets, net.JoinHostPort(address.String(), port))
			}
			if len(targets) > connectAddressesMax {
				return fmt.Errorf("wanted at most %d targets", connectAddressesMax)
			}
		}
	}
	if len(targets) == 0 {
		return errors.New("wanted addresses or networks")
	}
	atOnce := make(chan struct{}, connectAtOnceMax)
	var all sync.WaitGroup
	for _, target := range targets {
		if ctx.Err() != nil {
			break
		}
		atOnce <- struct{}{}
		all.Go(func() {
			defer func() { <-atOnce }()
			dialer := net.Dialer{Timeout: *timeout}
			connection, err := dialer.DialContext(ctx, "tcp", target)
			if err != nil {
				fmt.Printf("%s closed %s %v\n", now(), target, err)
				return
			}
			fmt.Printf("%s open %s\n", now(), target)
			_ = connection.Close()
		})
		rest(ctx, *interval)
	}
	all.Wait()
	return nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return address.Prefix(address.BitLen())
}

// hold keeps one connection busy, and ends when it breaks: how long an established flow lives. With
// -listen it waits for that connection instead of opening it.
func hold(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("hold", flag.ExitOnError)
	listen := flags.Bool("listen", false, "wait for connections at the address and send back what they send")
	interval := flags.Duration("interval", 200*time.Millisecond, "time between two lines")
	timeout := flags.Duration("timeout", 5*time.Second, "how long to wait for an answer")
	_ = flags.Parse(arguments)
	if flags.NArg() != 1 {
		return errors.New("wanted one ADDRESS:PORT")
	}
	if *listen {
		return echo(ctx, flags.Arg(0))
	}
	dialer := net.Dialer{Timeout: *timeout}
	connection, err := dialer.DialContext(ctx, "tcp", flags.Arg(0))
	if err != nil {
		return err
	}
	defer connection.Close()
	fmt.Printf("%s open %s\n", now(), flags.Arg(0))
	answers := bufio.NewReader(connection)
	for number := 0; ctx.Err() == nil; number++ {
		_ = connection.SetDeadline(time.Now().Add(*timeout))
		if _, err := fmt.Fprintf(connection, "line %d\n", number); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Printf("%s answered %s", now(), answer)
		rest(ctx, *interval)
	}
	return nil
}

func echo(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Printf("%s listening %s\n", now(), listener.Addr())
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			lines := bufio.NewScanner(connection)
			for lines.Scan() {
				fmt.Printf("%s from %s: %s\n", now(), connection.RemoteAddr(), lines.Text())
				if _, err := fmt.Fprintln(connection, lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}
