package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// The words of Stratum version 1, as pools for RandomX coins and for Bitcoin speak it. Nothing is hashed.
const (
	subscribeLine = `{"id":1,"method":"mining.subscribe","params":["cpuminer/2.5.1"]}`
	authorizeLine = `{"id":2,"method":"mining.authorize","params":["wallet.worker","x"]}`
	jobFormat     = `{"id":null,"method":"mining.notify","params":["%x","%064x","01000000010000","ffffffff",` +
		`[],"20000000","1d00ffff","%08x",true]}`
	shareFormat = `{"id":%d,"method":"mining.submit","params":["wallet.worker","%x","00000000","%08x","%08x"]}`
)

// mine holds a session with a pool: it logs in, takes jobs and submits a share now and then.
func mine(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("mine", flag.ExitOnError)
	secure := flags.Bool("tls", false, "speak TLS")
	name := flags.String("name", "", "the server's name in TLS; empty for none")
	share := flags.Duration("share", 7*time.Second, "mean time between two shares")
	_ = flags.Parse(arguments)
	if flags.NArg() != 1 {
		return errors.New("wanted one HOST:PORT")
	}
	dialer := net.Dialer{Timeout: 10 * time.Second}
	connection, err := dialer.DialContext(ctx, "tcp", flags.Arg(0))
	if err != nil {
		return err
	}
	defer connection.Close()
	if *secure {
		// Miners do not check certificates.
		connection = tls.Client(connection, &tls.Config{InsecureSkipVerify: true, ServerName: *name})
	}
	if _, err := fmt.Fprintf(connection, "%s\n%s\n", subscribeLine, authorizeLine); err != nil {
		return err
	}
	go submit(ctx, connection, *share)
	context.AfterFunc(ctx, func() { _ = connection.Close() })
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		fmt.Printf("%s %s\n", now(), lines.Text())
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the pool closed the session")
}

func submit(ctx context.Context, connection net.Conn, mean time.Duration) {
	for number := 3; ctx.Err() == nil; number++ {
		rest(ctx, time.Duration(rand.ExpFloat64()*float64(mean)))
		if _, err := fmt.Fprintf(connection, shareFormat+"\n", number, rand.Uint32(), rand.Uint32(), rand.Uint32()); err != nil {
			return
		}
	}
}

// pool serves any number of miners.
func pool(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("pool", flag.ExitOnError)
	secure := flags.String("tls", "", "folder with pool.crt and pool.key: speak TLS with them")
	job := flags.Duration("job", 10*time.Second, "time between two jobs")
	_ = flags.Parse(arguments)
	if flags.NArg() != 1 {
		return errors.New("wanted one ADDRESS:PORT")
	}
	listener, err := net.Listen("tcp", flags.Arg(0))
	if err != nil {
		return err
	}
	if *secure != "" {
		pair, err := tls.LoadX509KeyPair(*secure+"/pool.crt", *secure+"/pool.key")
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}})
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go serveMiner(ctx, connection, *job)
	}
}

func serveMiner(ctx context.Context, connection net.Conn, interval time.Duration) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer connection.Close()
	var writing sync.Mutex
	say := func(line string) {
		writing.Lock()
		defer writing.Unlock()
		_, _ = fmt.Fprintln(connection, line)
	}
	lines := bufio.NewScanner(connection)
	for number := 1; lines.Scan(); number++ {
		fmt.Printf("%s %s %s\n", now(), connection.RemoteAddr(), lines.Text())
		switch {
		case strings.Contains(lines.Text(), "mining.subscribe"):
			say(fmt.Sprintf(`{"id":1,"result":[[["mining.notify","%08x"]],"%08x",4],"error":null}`,
				rand.Uint32(), rand.Uint32()))
		case strings.Contains(lines.Text(), "mining.authorize"):
			say(`{"id":2,"result":true,"error":null}`)
			go func() {
				for ctx.Err() == nil {
					say(fmt.Sprintf(jobFormat, rand.Uint32(), rand.Uint64(), time.Now().Unix()))
					rest(ctx, interval)
				}
			}()
		default:
			say(fmt.Sprintf(`{"id":%d,"result":true,"error":null}`, number))
		}
	}
}
