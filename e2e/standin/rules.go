package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// This file writes the state of the cluster as one nftables transaction. Pure: the same world always
// gives the same text.

const table = "inet yellowjack_standin"

// view is how packets show a flow of a pod, out of it or into it: the chain that judges them, and which
// of their fields name the other end, the pod itself, and the port that was called. In replies source
// and destination have changed places.
type view struct {
	chain, peer, self, port string
	egress                  bool
}

var views = []view{
	{"egress", "daddr", "saddr", "dport", true},
	{"ingress", "saddr", "daddr", "dport", false},
	{"egress_replies", "saddr", "daddr", "sport", true},
	{"ingress_replies", "daddr", "saddr", "sport", false},
}

func family(address netip.Addr) string {
	if address.Is6() {
		return "ip6"
	}
	return "ip"
}

// ruleset is the text for `nft -f`, and what can be said about it.
type ruleset struct {
	text           string
	rules, guarded int
	// problems name what is not understood. It fails closed: it allows nothing, and where it denies
	// or passes, it denies all.
	problems []string
}

type compiler struct {
	*world
	ruleset
	chains map[string]string // names by rules: pods that are judged alike share a chain
	body   strings.Builder
}

// compile judges packets of established flows by the policies of now if perPacket is set, replies by
// what the side that opened the flow may do. Otherwise such packets pass unseen. An empty node means
// the pods of all nodes.
func compile(w *world, perPacket bool, node string) ruleset {
	c := &compiler{world: w, chains: map[string]string{}}
	jumps := map[string][]string{} // by chain and field
	seen := views[:2]
	if perPacket {
		seen = views
	}
	guarded := map[*pod]bool{}
	for _, subject := range w.pods {
		for _, v := range seen {
			if node != "" && subject.Spec.NodeName != node {
				continue
			}
			if chain := c.judge(subject, v); chain != "" {
				guarded[subject] = true
				for _, address := range subject.addresses {
					key := fmt.Sprintf("%s %s %s", v.chain, family(address), v.self)
					jumps[key] = append(jumps[key], fmt.Sprintf("%s : jump %s", address, chain))
				}
			}
		}
	}
	c.guarded = len(guarded)
	c.hooks(perPacket, jumps)
	c.text = fmt.Sprintf("table %s {}\ndelete table %s\ntable %s {\n%s}\n", table, table, table, c.body.String())
	return c.ruleset
}

func (c *compiler) chain(name string, head string, rules []string) {
	c.rules += len(rules)
	fmt.Fprintf(&c.body, "\tchain %s {\n%s", name, head)
	for _, rule := range rules {
		fmt.Fprintf(&c.body, "\t\t%s\n", rule)
	}
	fmt.Fprint(&c.body, "\t}\n")
}

// shared is empty for no rules, else the name of the chain that holds these.
func (c *compiler) shared(rules []string) string {
	if len(rules) == 0 {
		return ""
	}
	key := strings.Join(rules, "\n")
	if c.chains[key] == "" {
		c.chains[key] = fmt.Sprintf("pods_%d", len(c.chains))
		c.chain(c.chains[key], "", rules)
	}
	return c.chains[key]
}

// judge gives the chain for one pod in one view; empty where nothing restricts it. The Admin tier
// comes first, then either the NetworkPolicies, which end with a denial, or the Baseline tier. To
// allow is to return: the pod at the other end is judged after this one.
func (c *compiler) judge(subject *pod, v view) string {
	rules, isolated := c.policyRules(subject, v)
	if isolated {
		rules = append(rules, "counter drop")
	} else {
		rules = c.clusterRules(subject, v, "Baseline", "return")
	}
	next, passed := c.shared(rules), "return"
	if next != "" {
		passed = "goto " + next
	}
	if admin := c.clusterRules(subject, v, "Admin", passed); len(admin) > 0 {
		return c.shared(append(admin, passed))
	}
	return next
}

func (c *compiler) policyRules(subject *pod, v view) (rules []string, isolated bool) {
	for _, policy := range c.policies {
		spec := policy.Spec
		kind := map[bool]networkingv1.PolicyType{true: networkingv1.PolicyTypeEgress, false: networkingv1.PolicyTypeIngress}[v.egress]
		if policy.Namespace != subject.Namespace || !slices.Contains(spec.PolicyTypes, kind) || !selects(&spec.PodSelector, subject.Labels) {
			continue
		}
		isolated = true
		if v.egress {
			spec.Ingress = nil
			for _, rule := range spec.Egress {
				spec.Ingress = append(spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: rule.To, Ports: rule.Ports})
			}
		}
		for _, rule := range spec.Ingress {
			rules = append(rules, c.write(subject, v, rule.From, rule.Ports, "return")...)
		}
	}
	return rules, isolated
}

func (c *compiler) clusterRules(subject *pod, v view, tier, passed string) (rules []string) {
	verdicts := map[string]string{"Accept": "return", "Deny": "counter drop", "Pass": passed}
	ordered := slices.SortedStableFunc(slices.Values(c.clusterPolicies), func(a, b *clusterPolicy) int {
		return cmp.Compare(a.Spec.Priority, b.Spec.Priority)
	})
	for _, policy := range ordered {
		means := func(p networkingv1.NetworkPolicyPeer) bool { return c.chooses(p, "", subject) }
		if policy.Spec.Tier != tier || !slices.ContainsFunc(policy.Spec.Subject.plain(), means) {
			continue
		}
		chosen := policy.Spec.Ingress
		if v.egress {
			chosen = policy.Spec.Egress
		}
		for i, rule := range chosen {
			peers, ports, known := rule.plain()
			if known {
				rules = append(rules, c.write(subject, v, peers, ports, verdicts[rule.Action])...)
				continue
			}
			problem := fmt.Sprintf("rule %d (egress: %v) of ClusterNetworkPolicy %s is not understood", i, v.egress, policy.Name)
			if !slices.Contains(c.problems, problem) {
				c.problems = append(c.problems, problem)
			}
			if rule.Action != "Accept" {
				rules = append(rules, "counter drop")
			}
		}
	}
	return rules
}

// place is where a peer is, as a match, and the pod that is there, if one is.
type place struct {
	match string
	pod   *pod
}

// write gives one line for each address and port, which spares merging what overlaps.
func (c *compiler) write(subject *pod, v view, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, verdict string) []string {
	var places []place
	if len(peers) == 0 {
		places = []place{{}}
		if slices.ContainsFunc(ports, isNamed) {
			peers = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
		}
	}
	for _, peer := range peers {
		places = append(places, c.places(subject, v, peer)...)
	}
	var lines []string
	for _, at := range places {
		if len(ports) == 0 {
			lines = append(lines, strings.TrimSpace(at.match+" "+verdict))
		}
		// The name of a port means something at the end where the traffic arrives.
		target := subject
		if v.egress {
			target = at.pod
		}
		for _, port := range ports {
			for _, numbers := range numbers(target, v, port) {
				lines = append(lines, strings.TrimSpace(at.match+" "+numbers+" "+verdict))
			}
		}
	}
	return lines
}

func (c *compiler) places(subject *pod, v view, peer networkingv1.NetworkPolicyPeer) []place {
	if peer.IPBlock != nil {
		return block(peer.IPBlock, v)
	}
	var places []place
	for _, p := range c.pods {
		if c.chooses(peer, subject.Namespace, p) {
			for _, address := range p.addresses {
				places = append(places, place{fmt.Sprintf("%s %s %s", family(address), v.peer, address), p})
			}
		}
	}
	return places
}

// block is empty for what is no network: the API server refuses it.
func block(b *networkingv1.IPBlock, v view) []place {
	network, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil
	}
	// nftables takes no network of all addresses.
	match := map[string]string{"ip": "meta nfproto ipv4", "ip6": "meta nfproto ipv6"}[family(network.Addr())]
	if network.Bits() > 0 {
		match = fmt.Sprintf("%s %s %s", family(network.Addr()), v.peer, network.Masked())
	}
	for _, except := range b.Except {
		if without, err := netip.ParsePrefix(except); err == nil {
			match += fmt.Sprintf(" %s %s != %s", family(network.Addr()), v.peer, without.Masked())
		}
	}
	return []place{{match: match}}
}

func isNamed(port networkingv1.NetworkPolicyPort) bool {
	return port.Port != nil && port.Port.StrVal != ""
}

// numbers gives the matches for a port; none where it is a name that the target does not know.
func numbers(target *pod, v view, port networkingv1.NetworkPolicyPort) []string {
	protocol := strings.ToLower(string(ptr.Deref(port.Protocol, corev1.ProtocolTCP)))
	if port.Port == nil {
		return []string{"meta l4proto " + protocol}
	}
	if !isNamed(port) {
		numbers := fmt.Sprintf("%s %s %d", protocol, v.port, port.Port.IntVal)
		if port.EndPort != nil {
			numbers += fmt.Sprintf("-%d", *port.EndPort)
		}
		return []string{numbers}
	}
	var all []string
	if target != nil {
		for _, number := range target.listens(protocol, port.Port.StrVal) {
			all = append(all, fmt.Sprintf("%s %s %d", protocol, v.port, number))
		}
	}
	return all
}

// hooks writes where the kernel calls the rules: before iptables, so that a log in its FORWARD chain
// shows what was forwarded, as on engines that drop packets earlier than that. Packets for the node
// itself pass `input`, where a pod's egress is judged; those from the node to its pods pass unjudged,
// as everywhere: the kubelet must reach them.
func (c *compiler) hooks(perPacket bool, jumps map[string][]string) {
	for _, v := range views {
		var rules []string
		for _, name := range []string{"ip", "ip6"} {
			field := fmt.Sprintf("%s %s", name, v.self)
			if found := jumps[v.chain+" "+field]; len(found) > 0 {
				rules = append(rules, fmt.Sprintf("%s vmap { %s }", field, strings.Join(found, ", ")))
			}
		}
		c.chain(v.chain, "", rules)
	}
	first := func(replies string) []string {
		if perPacket {
			return []string{"ct state related accept", "ct direction reply " + replies}
		}
		return []string{"ct state established,related accept"}
	}
	hook := func(name string, rules ...string) {
		c.chain(name, fmt.Sprintf("\t\ttype filter hook %s priority filter - 10; policy accept;\n", name), rules)
	}
	c.chain("replies", "", []string{"jump egress_replies", "jump ingress_replies"})
	hook("forward", append(first("goto replies"), "jump egress", "jump ingress")...)
	neighbours := "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
	hook("input", append(first("accept"), neighbours, "jump egress")...)
}
