package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A node that forwards between its pods and the outside, as namespaces of their own: nothing leaves.

const (
	outside4, outside6 = "198.51.100.10", "2001:db8:51::10"
	node4, node6       = "10.244.0.1", "fd00:244::1"
	// stateLimit is how long to wait for a state. Loopback answers in microseconds; the API server and
	// nft share two cores with a build.
	stateLimit = 15 * time.Second
	// answerLimit is how long to wait for an answer that must not come.
	answerLimit = 300 * time.Millisecond
)

type netns struct{ name string }

func (n netns) path() string { return "/var/run/netns/" + n.name }

// inside runs f on a thread that has entered the namespace and ends with f. Sockets stay where they
// were made.
func (n netns) inside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread dies with this goroutine
		handle, err := os.Open(n.path())
		if err == nil {
			defer handle.Close()
			err = unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// lab is the whole network. It goes with the test, whatever its outcome.
type lab struct {
	node, outside netns
	pods          map[string]netns
}

func newLab(t *testing.T, pods map[string]int) *lab {
	t.Helper()
	prefix := fmt.Sprintf("standin-%d-", os.Getpid())
	l := &lab{node: netns{prefix + "node"}, outside: netns{prefix + "outside"}, pods: map[string]netns{}}
	make := func(n netns) {
		ip(t, "netns add "+n.name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", n.name).Run() })
		ip(t, "-n "+n.name+" link set lo up")
	}
	make(l.node)
	make(l.outside)
	// Namespaces inherit nothing: forwarding is this node's alone.
	err := l.node.inside(func() error {
		for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			// procfs shows the namespace of the thread that opens the file.
			if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l.wire(t, l.outside, "out", "198.51.100.1/24", "2001:db8:51::1/64", outside4+"/24", outside6+"/64")
	ip(t, "-n "+l.outside.name+" route add default via 198.51.100.1")
	ip(t, "-n "+l.outside.name+" route add default via 2001:db8:51::1")
	for name, number := range pods {
		n := netns{prefix + name}
		make(n)
		l.pods[name] = n
		// As the CNI plugin `ptp` does it: the gateway's address on each link, a route for each pod.
		l.wire(t, n, name, node4+"/32", node6+"/128", fmt.Sprintf("10.244.0.%d/32", number), fmt.Sprintf("fd00:244::%x/128", number))
		ip(t, fmt.Sprintf("-n %s route add 10.244.0.%d dev %s", l.node.name, number, name))
		ip(t, fmt.Sprintf("-n %s route add fd00:244::%x dev %s", l.node.name, number, name))
		for _, gateway := range []string{node4, node6} {
			ip(t, fmt.Sprintf("-n %s route add %s dev eth0", n.name, gateway))
			ip(t, fmt.Sprintf("-n %s route add default via %s dev eth0", n.name, gateway))
		}
	}
	for _, n := range l.pods {
		serve(t, n)
	}
	serve(t, l.outside)
	serve(t, l.node)
	for name, n := range l.pods {
		// Links and neighbours take a moment.
		for _, address := range []string{outside4, outside6} {
			waitFor(t, name+" reaches "+address, func() bool { return reaches(n, "tcp", address, 80) })
		}
	}
	return l
}

func ip(t *testing.T, arguments string) {
	t.Helper()
	if said, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", arguments, err, said)
	}
}

func (l *lab) wire(t *testing.T, n netns, link string, near4, near6, far4, far6 string) {
	t.Helper()
	ip(t, fmt.Sprintf("-n %s link add %s type veth peer name eth0 netns %s", l.node.name, link, n.name))
	for _, end := range []string{
		fmt.Sprintf("-n %s address add %%s dev %s", l.node.name, link),
		fmt.Sprintf("-n %s address add %%s dev eth0", n.name),
	} {
		four, six := near4, near6
		if strings.HasSuffix(end, "eth0") {
			four, six = far4, far6
		}
		ip(t, fmt.Sprintf(end, four))
		ip(t, fmt.Sprintf(end, six)+" nodad")
	}
	ip(t, fmt.Sprintf("-n %s link set %s up", l.node.name, link))
	ip(t, fmt.Sprintf("-n %s link set eth0 up", n.name))
}

// ports have an echo on TCP and on UDP in every namespace.
var ports = []int{80, 81, 9005}

func serve(t *testing.T, n netns) {
	t.Helper()
	for _, port := range ports {
		err := n.inside(func() error {
			listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { listener.Close() })
			go echoAll(listener)
			packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			t.Cleanup(func() { packets.Close() })
			go echoPackets(packets)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func echoAll(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			_, _ = io.Copy(connection, connection)
		}()
	}
}

func echoPackets(packets net.PacketConn) {
	buffer := make([]byte, 64)
	for {
		count, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buffer[:count], from)
	}
}

// flow is a connection with an echo at its other end.
type flow struct {
	net.Conn
	reader *bufio.Reader
	count  int
}

func open(from netns, network, address string, port int) (*flow, error) {
	var f *flow
	err := from.inside(func() error {
		dialer := net.Dialer{Timeout: answerLimit}
		connection, err := dialer.Dial(network, net.JoinHostPort(address, fmt.Sprint(port)))
		if err == nil {
			f = &flow{Conn: connection, reader: bufio.NewReader(connection)}
		}
		return err
	})
	return f, err
}

// answers sends one line and says whether it, and no older one alone, came back in time.
func (f *flow) answers(limit time.Duration) bool {
	f.count++
	line := fmt.Sprintf("%d\n", f.count)
	_ = f.SetDeadline(time.Now().Add(limit))
	if _, err := f.Write([]byte(line)); err != nil {
		return false
	}
	for {
		got, err := f.reader.ReadString('\n')
		if err != nil {
			return false
		}
		if got == line {
			return true
		}
	}
}

// reaches says whether a new connection gets an answer.
func reaches(from netns, network, address string, port int) bool {
	f, err := open(from, network, address, port)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.answers(answerLimit)
}

// waitFor polls a state.
func waitFor(t *testing.T, what string, state func() bool) {
	t.Helper()
	for end := time.Now().Add(stateLimit); ; time.Sleep(5 * time.Millisecond) {
		if state() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", stateLimit, what)
		}
	}
}

// flood sends UDP packets until the test ends.
func flood(t *testing.T, from netns, address string, port int) *atomic.Int64 {
	t.Helper()
	sent, stop := &atomic.Int64{}, make(chan struct{})
	var connection net.Conn
	err := from.inside(func() (err error) {
		connection, err = net.Dial("udp", net.JoinHostPort(address, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(stop) })
	go func() {
		defer connection.Close()
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				for range 10 {
					if _, err := connection.Write([]byte("x")); err == nil {
						sent.Add(1)
					}
				}
			}
		}
	}()
	return sent
}

// count counts the UDP packets that arrive.
func count(t *testing.T, at netns, port int) *atomic.Int64 {
	t.Helper()
	arrived := &atomic.Int64{}
	err := at.inside(func() error {
		packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { packets.Close() })
		go func() {
			buffer := make([]byte, 64)
			for {
				if _, _, err := packets.ReadFrom(buffer); err != nil {
					return
				}
				arrived.Add(1)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return arrived
}

// honest sends a line every 20 ms until stopped, and counts the ones without an answer.
type honest struct {
	sent, lost atomic.Int64
	stop, done chan struct{}
}

func keepTalking(t *testing.T, from netns, address string) *honest {
	t.Helper()
	f, err := open(from, "tcp", address, 80)
	if err != nil {
		t.Fatal(err)
	}
	h := &honest{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(h.done)
		defer f.Close()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-h.stop:
				return
			case <-ticker.C:
				h.sent.Add(1)
				if !f.answers(stateLimit) {
					h.lost.Add(1)
					return
				}
				// Every fourth is a connection of its own.
				if h.sent.Load()%4 == 0 && !reaches(from, "tcp", address, 81) {
					h.lost.Add(1)
				}
			}
		}
	}()
	return h
}

func (h *honest) end(t *testing.T) {
	t.Helper()
	close(h.stop)
	<-h.done
	if h.sent.Load() == 0 || h.lost.Load() > 0 {
		t.Errorf("the honest pod lost %d of %d", h.lost.Load(), h.sent.Load())
	}
}
