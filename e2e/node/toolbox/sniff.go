package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// How often it looks whether it shall end.
const sniffWait = 50 * time.Millisecond

// packet is one line of the log of what arrived.
type packet struct {
	// Microseconds since 1970, when the kernel took the packet.
	TimeMicros int64  `json:"time_us"`
	From       string `json:"from"`
	To         string `json:"to"`
	// The number of the protocol: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6.
	Protocol int  `json:"protocol"`
	FromPort int  `json:"from_port"`
	ToPort   int  `json:"to_port"`
	Syn      bool `json:"syn"`
	Bytes    int  `json:"bytes"`
}

// sniff writes down every packet that arrives at an interface; those that leave by it are not its
// matter. It says "ready" on standard output once nothing can be missed any more.
func sniff(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("sniff", flag.ExitOnError)
	_ = flags.Parse(arguments)
	if flags.NArg() != 2 {
		return errors.New("wanted INTERFACE FILE")
	}
	link, err := net.InterfaceByName(flags.Arg(0))
	if err != nil {
		return err
	}
	socket, err := listenAll(link.Index)
	if err != nil {
		return err
	}
	defer syscall.Close(socket)
	file, err := os.OpenFile(flags.Arg(1), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	os.Stdout.WriteString("ready\n")
	out := bufio.NewWriter(file)
	lines := json.NewEncoder(out)
	buffer, control := make([]byte, 65536), make([]byte, 256)
	for ctx.Err() == nil {
		// With lines in hand it does not wait for a packet: whoever counts reads while the file grows.
		flags := 0
		if out.Buffered() > 0 {
			flags = syscall.MSG_DONTWAIT
		}
		size, controlSize, _, from, err := syscall.Recvmsg(socket, buffer, control, flags)
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			if err := out.Flush(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if link, ok := from.(*syscall.SockaddrLinklayer); ok && link.Pkttype == syscall.PACKET_OUTGOING {
			continue
		}
		if seen, ok := parse(buffer[:size]); ok {
			seen.TimeMicros = kernelTime(control[:controlSize]).UnixMicro()
			if err := lines.Encode(seen); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// listenAll opens a packet socket whose reads return after sniffWait without a packet.
func listenAll(link int) (int, error) {
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, int(all))
	if err != nil {
		return 0, err
	}
	limit := syscall.NsecToTimeval(sniffWait.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
		syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_TIMESTAMPNS, 1),
		syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20),
		syscall.Bind(socket, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: link}),
	)
	return socket, err
}

func kernelTime(control []byte) time.Time {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err == nil {
		for _, message := range messages {
			if message.Header.Level == syscall.SOL_SOCKET && message.Header.Type == syscall.SCM_TIMESTAMPNS &&
				len(message.Data) >= 16 {
				seconds := binary.NativeEndian.Uint64(message.Data)
				nanos := binary.NativeEndian.Uint64(message.Data[8:])
				return time.Unix(int64(seconds), int64(nanos))
			}
		}
	}
	return time.Now()
}

// parse reads the headers of an IP packet; other packets (ARP) are none of a pod's.
func parse(data []byte) (packet, bool) {
	var seen packet
	var rest []byte
	switch {
	case len(data) >= 20 && data[0]>>4 == 4:
		seen.From = netip.AddrFrom4([4]byte(data[12:16])).String()
		seen.To = netip.AddrFrom4([4]byte(data[16:20])).String()
		seen.Protocol = int(data[9])
		if head := int(data[0]&15) * 4; head <= len(data) {
			rest = data[head:]
		}
	case len(data) >= 40 && data[0]>>4 == 6:
		seen.From = netip.AddrFrom16([16]byte(data[8:24])).String()
		seen.To = netip.AddrFrom16([16]byte(data[24:40])).String()
		seen.Protocol = int(data[6])
		rest = data[40:]
	default:
		return seen, false
	}
	seen.Bytes = len(data)
	if (seen.Protocol == syscall.IPPROTO_TCP || seen.Protocol == syscall.IPPROTO_UDP) && len(rest) >= 4 {
		seen.FromPort = int(binary.BigEndian.Uint16(rest))
		seen.ToPort = int(binary.BigEndian.Uint16(rest[2:]))
	}
	if seen.Protocol == syscall.IPPROTO_TCP && len(rest) >= 14 {
		seen.Syn = rest[13]&0x12 == 0x02
	}
	return seen, true
}
