package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// This file writes the state of the cluster as one nftables transaction. Pure: the same world always
// gives the same text.

const table = "inet yellowjack_standin"

// view is how packets show a flow of a pod: into it or out of it, and, in replies, with source and
// destination in each other's place.
type view struct{ egress, reply bool }

func (v view) peer() string {
	return map[bool]string{true: "daddr", false: "saddr"}[v.egress != v.reply]
}
func (v view) self() string {
	return map[bool]string{true: "saddr", false: "daddr"}[v.egress != v.reply]
}
func (v view) port() string { return map[bool]string{true: "sport", false: "dport"}[v.reply] }

func (v view) chain() string {
	return map[bool]string{true: "egress", false: "ingress"}[v.egress] + map[bool]string{true: "_replies"}[v.reply]
}

func family(address netip.Addr) string {
	return map[bool]string{true: "ip6", false: "ip"}[address.Is6()]
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
	for _, subject := range w.pods {
		if node != "" && subject.Spec.NodeName != node {
			continue
		}
		found := false
		for _, v := range []view{{egress: true}, {}, {egress: true, reply: true}, {reply: true}} {
			if v.reply && !perPacket {
				continue
			}
			chain := c.judge(subject, v)
			if chain == "" {
				continue
			}
			found = true
			for _, address := range subject.addresses {
				key := fmt.Sprintf("%s %s %s", v.chain(), family(address), v.self())
				jumps[key] = append(jumps[key], fmt.Sprintf("%s : jump %s", address, chain))
			}
		}
		if found {
			c.guarded++
		}
	}
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
	kind := networkingv1.PolicyTypeIngress
	if v.egress {
		kind = networkingv1.PolicyTypeEgress
	}
	for _, policy := range c.policies {
		if policy.Namespace != subject.Namespace || !slices.Contains(policy.Spec.PolicyTypes, kind) ||
			!selects(&policy.Spec.PodSelector, subject.Labels) {
			continue
		}
		isolated = true
		if v.egress {
			for _, rule := range policy.Spec.Egress {
				rules = append(rules, c.write(subject, v, rule.To, rule.Ports, "return")...)
			}
			continue
		}
		for _, rule := range policy.Spec.Ingress {
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
			problem := fmt.Sprintf("%s rule %d of ClusterNetworkPolicy %s is not understood", view{egress: v.egress}.chain(), i, policy.Name)
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

// write gives one line for each pair of a peer and a port, which spares merging what overlaps.
func (c *compiler) write(subject *pod, v view, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, verdict string) []string {
	var lines []string
	add := func(parts ...string) {
		lines = append(lines, strings.Join(strings.Fields(strings.Join(append(parts, verdict), " ")), " "))
	}
	pair := func(places []string, pods []*pod) {
		for _, place := range places {
			if len(ports) == 0 {
				add(place)
			}
			for _, port := range ports {
				for _, number := range numbers(subject, v, port) {
					add(place, number)
				}
			}
		}
		// The name of a port means something at the end where the traffic arrives.
		for _, port := range ports {
			for _, p := range pods {
				if v.egress && port.Port != nil && port.Port.StrVal != "" {
					for _, number := range p.listens(protocol(port), port.Port.StrVal) {
						for _, place := range holding([]*pod{p}, v) {
							add(place, fmt.Sprintf("%s %s %d", protocol(port), v.port(), number))
						}
					}
				}
			}
		}
	}
	if len(peers) == 0 {
		pair([]string{""}, c.world.pods)
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			pair(block(peer.IPBlock, v), nil)
			continue
		}
		var chosen []*pod
		for _, p := range c.world.pods {
			if c.chooses(peer, subject.Namespace, p) {
				chosen = append(chosen, p)
			}
		}
		pair(holding(chosen, v), chosen)
	}
	return lines
}

func protocol(port networkingv1.NetworkPolicyPort) string {
	if port.Protocol == nil {
		return "tcp"
	}
	return strings.ToLower(string(*port.Protocol))
}

// numbers leaves out the names that the subject does not know; of the peers' names, `write` takes care.
func numbers(subject *pod, v view, port networkingv1.NetworkPolicyPort) []string {
	switch {
	case port.Port == nil:
		return []string{"meta l4proto " + protocol(port)}
	case port.Port.StrVal == "" && port.EndPort != nil && *port.EndPort != port.Port.IntVal:
		return []string{fmt.Sprintf("%s %s %d-%d", protocol(port), v.port(), port.Port.IntVal, *port.EndPort)}
	case port.Port.StrVal == "":
		return []string{fmt.Sprintf("%s %s %d", protocol(port), v.port(), port.Port.IntVal)}
	case v.egress:
		return nil
	}
	var all []string
	for _, number := range subject.listens(protocol(port), port.Port.StrVal) {
		all = append(all, fmt.Sprintf("%s %s %d", protocol(port), v.port(), number))
	}
	return all
}

// holding matches the addresses of pods, one line for each family that they have.
func holding(pods []*pod, v view) []string {
	var lines []string
	for _, name := range []string{"ip", "ip6"} {
		var addresses []string
		for _, p := range pods {
			for _, address := range p.addresses {
				if family(address) == name {
					addresses = append(addresses, address.String())
				}
			}
		}
		if len(addresses) > 0 {
			lines = append(lines, fmt.Sprintf("%s %s { %s }", name, v.peer(), strings.Join(addresses, ", ")))
		}
	}
	return lines
}

// block is empty for what is no network: the API server refuses it.
func block(b *networkingv1.IPBlock, v view) []string {
	network, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return nil
	}
	name := family(network.Addr())
	line := fmt.Sprintf("%s %s %s", name, v.peer(), network.Masked())
	if network.Bits() == 0 {
		line = "meta nfproto " + map[string]string{"ip": "ipv4", "ip6": "ipv6"}[name]
	}
	for _, except := range b.Except {
		if without, err := netip.ParsePrefix(except); err == nil {
			line += fmt.Sprintf(" %s %s != %s", name, v.peer(), without.Masked())
		}
	}
	return []string{line}
}

// hooks writes where the kernel calls the rules. Packets for the node itself pass `input`, where a
// pod's egress is judged; those from the node to its pods pass unjudged, as everywhere: the kubelet
// must reach them.
func (c *compiler) hooks(perPacket bool, jumps map[string][]string) {
	for _, v := range []view{{egress: true}, {}, {egress: true, reply: true}, {reply: true}} {
		var rules []string
		for _, name := range []string{"ip", "ip6"} {
			field := fmt.Sprintf("%s %s", name, v.self())
			if found := jumps[v.chain()+" "+field]; len(found) > 0 {
				rules = append(rules, fmt.Sprintf("%s vmap { %s }", field, strings.Join(found, ", ")))
			}
		}
		c.chain(v.chain(), "", rules)
	}
	first := func(replies string) []string {
		if perPacket {
			return []string{"ct state related accept", "ct direction reply " + replies}
		}
		return []string{"ct state established,related accept"}
	}
	hook := func(name string, rules ...string) {
		c.chain(name, fmt.Sprintf("\t\ttype filter hook %s priority filter; policy accept;\n", name), rules)
	}
	c.chain("replies", "", []string{"jump egress_replies", "jump ingress_replies"})
	hook("forward", append(first("goto replies"), "jump egress", "jump ingress")...)
	neighbours := "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
	hook("input", append(first("accept"), neighbours, "jump egress")...)
}
