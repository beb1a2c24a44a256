package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const serveBytesMax = 64 << 20

// get asks for one URL after the other, each on a connection of its own, as package managers'
// short-lived processes do.
func get(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("get", flag.ExitOnError)
	count := flags.Int("count", 1, "number of requests; 0 for no end")
	interval := flags.Duration("interval", 0, "time between the starts of two requests")
	timeout := flags.Duration("timeout", 5*time.Second, "time limit of one request")
	strict := flags.Bool("strict", false, "fail where one request failed")
	var ask asking
	flags.StringVar(&ask.method, "method", http.MethodGet, "method of the requests")
	flags.StringVar(&ask.body, "body", "", "body of the requests")
	flags.StringVar(&ask.kind, "type", "", "content type of the body")
	flags.StringVar(&ask.bearer, "bearer", "", "file with a token to send along")
	flags.BoolVar(&ask.show, "show", false, "print what the server answers")
	_ = flags.Parse(arguments)
	if flags.NArg() == 0 {
		return errors.New("wanted at least one URL")
	}
	ask.client = &http.Client{Timeout: *timeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		// The servers of a test make their certificates themselves.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	good, bad := 0, 0
	for sent := 0; ctx.Err() == nil && (*count == 0 || sent < *count); sent++ {
		started := time.Now()
		url := flags.Arg(sent % flags.NArg())
		size, err := ask.fetch(ctx, url)
		if err != nil {
			bad++
			fmt.Printf("%s failed %s %v\n", now(), url, err)
		} else {
			good++
			fmt.Printf("%s ok %s %d bytes\n", now(), url, size)
		}
		rest(ctx, *interval-time.Since(started))
	}
	fmt.Printf("%s requests: %d worked, %d failed\n", now(), good, bad)
	if *strict && bad > 0 {
		return fmt.Errorf("%d requests failed", bad)
	}
	return nil
}

// asking is what all requests of one get have in common.
type asking struct {
	client                     *http.Client
	method, body, kind, bearer string
	show                       bool
}

func (ask *asking) fetch(ctx context.Context, url string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, ask.method, url, strings.NewReader(ask.body))
	if err != nil {
		return 0, err
	}
	if ask.kind != "" {
		request.Header.Set("Content-Type", ask.kind)
	}
	if ask.bearer != "" {
		token, err := os.ReadFile(ask.bearer)
		if err != nil {
			return 0, err
		}
		request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	reply, err := ask.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	into := io.Discard
	if ask.show {
		into = os.Stdout
	}
	size, err := io.Copy(into, reply.Body)
	if err == nil && reply.StatusCode/100 != 2 {
		err = fmt.Errorf("answered %s", reply.Status)
	}
	return size, err
}

// serve answers /bytes/N with N random bytes, and anything else with "ok".
func serve(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", ":80", "addresses to listen on, with commas between")
	_ = flags.Parse(arguments)
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	for _, address := range strings.Split(*listen, ",") {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(listener) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}

func answer(writer http.ResponseWriter, request *http.Request) {
	number, found := strings.CutPrefix(request.URL.Path, "/bytes/")
	if !found {
		fmt.Fprintln(writer, "ok")
		return
	}
	size, err := strconv.ParseInt(number, 10, 64)
	if err != nil || size < 0 || size > serveBytesMax {
		http.Error(writer, "wanted /bytes/N", http.StatusBadRequest)
		return
	}
	writer.Header().Set("Content-Length", number)
	_, _ = io.CopyN(writer, rand.Reader, size)
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z") }

// rest waits, at most until the context ends.
func rest(ctx context.Context, length time.Duration) {
	if length <= 0 {
		return
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
}
