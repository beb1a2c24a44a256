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
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// This file says which pods hold which addresses, and puts ClusterNetworkPolicies into the words of
// NetworkPolicies, so that one compiler (rules.go) serves both.

// clusterPolicy has the fields of policy.networking.k8s.io/v1alpha2 that are understood here.
type clusterPolicy struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Tier     string        `json:"tier"`
		Priority int32         `json:"priority"`
		Subject  clusterPeer   `json:"subject"`
		Ingress  []clusterRule `json:"ingress"`
		Egress   []clusterRule `json:"egress"`
	} `json:"spec"`
}

type clusterRule struct {
	Action    string            `json:"action"`
	From      []clusterPeer     `json:"from"`
	To        []clusterPeer     `json:"to"`
	Protocols []clusterProtocol `json:"protocols"`
}

type clusterPeer struct {
	Namespaces *metav1.LabelSelector           `json:"namespaces"`
	Pods       *networkingv1.NetworkPolicyPeer `json:"pods"` // its two selectors have the same names
	Networks   []string                        `json:"networks"`
}

type clusterProtocol struct {
	TCP  *clusterPort `json:"tcp"`
	UDP  *clusterPort `json:"udp"`
	SCTP *clusterPort `json:"sctp"`
	Name string       `json:"destinationNamedPort"`
}

type clusterPort struct {
	DestinationPort struct {
		Number int32 `json:"number"`
		Range  struct {
			Start int32 `json:"start"`
			End   int32 `json:"end"`
		} `json:"range"`
	} `json:"destinationPort"`
}

// plain is empty for a peer of a kind that is not understood.
func (p clusterPeer) plain() []networkingv1.NetworkPolicyPeer {
	var peers []networkingv1.NetworkPolicyPeer
	if p.Namespaces != nil {
		peers = append(peers, networkingv1.NetworkPolicyPeer{NamespaceSelector: p.Namespaces})
	}
	if p.Pods != nil {
		peers = append(peers, *p.Pods)
	}
	for _, network := range p.Networks {
		peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: network}})
	}
	return peers
}

// plain is empty for a protocol that is not understood. A name without a protocol holds for each.
func (p clusterProtocol) plain() []networkingv1.NetworkPolicyPort {
	var ports []networkingv1.NetworkPolicyPort
	one := func(protocol corev1.Protocol, port *clusterPort) {
		plain := networkingv1.NetworkPolicyPort{Protocol: &protocol}
		if p.Name != "" {
			plain.Port = ptr.To(intstr.FromString(p.Name))
		} else if port == nil {
			return
		} else if to := port.DestinationPort; to.Number > 0 || to.Range.Start > 0 {
			plain.Port = ptr.To(intstr.FromInt32(max(to.Number, to.Range.Start)))
			if to.Range.End > 0 {
				plain.EndPort = &to.Range.End
			}
		}
		ports = append(ports, plain)
	}
	one(corev1.ProtocolTCP, p.TCP)
	one(corev1.ProtocolUDP, p.UDP)
	one(corev1.ProtocolSCTP, p.SCTP)
	return ports
}

// plain gives who and what a rule means; false where a part of it is not understood.
func (r clusterRule) plain() ([]networkingv1.NetworkPolicyPeer, []networkingv1.NetworkPolicyPort, bool) {
	var peers []networkingv1.NetworkPolicyPeer
	var ports []networkingv1.NetworkPolicyPort
	known := slices.Contains([]string{"Accept", "Deny", "Pass"}, r.Action)
	for _, peer := range slices.Concat(r.From, r.To) {
		plain := peer.plain()
		peers, known = append(peers, plain...), known && len(plain) > 0
	}
	for _, protocol := range r.Protocols {
		plain := protocol.plain()
		ports, known = append(ports, plain...), known && len(plain) > 0
	}
	return peers, ports, known && len(peers) > 0
}

// world is what the API server said at one moment.
type world struct {
	pods            []*pod
	namespaces      map[string]labels.Set
	policies        []*networkingv1.NetworkPolicy
	clusterPolicies []*clusterPolicy
}

type pod struct {
	*corev1.Pod
	addresses []netip.Addr
}

// holders gives the pods that hold their addresses now. Host-networked pods have none of their own,
// ended ones no longer any. Of two that claim one address, the one that is not being deleted holds
// it, else the younger.
func holders(objects []*corev1.Pod, podNetworks []netip.Prefix) []*pod {
	rank := func(p *corev1.Pod) string {
		return fmt.Sprint(p.DeletionTimestamp == nil, p.CreationTimestamp.UTC().Format("2006-01-02T15:04:05"), p.UID)
	}
	objects = slices.SortedFunc(slices.Values(objects), func(a, b *corev1.Pod) int { return strings.Compare(rank(b), rank(a)) })
	taken := map[netip.Addr]bool{}
	var pods []*pod
	for _, object := range objects {
		if object.Spec.HostNetwork || object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed {
			continue
		}
		found := &pod{Pod: object}
		for _, said := range object.Status.PodIPs {
			address, err := netip.ParseAddr(said.IP)
			inside := func(network netip.Prefix) bool { return network.Contains(address) }
			if err == nil && !taken[address] && (len(podNetworks) == 0 || slices.ContainsFunc(podNetworks, inside)) {
				taken[address] = true
				found.addresses = append(found.addresses, address)
			}
		}
		if len(found.addresses) > 0 {
			pods = append(pods, found)
		}
	}
	slices.SortStableFunc(pods, func(a, b *pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return pods
}

// listens gives the numbers of the ports that a pod calls by this name.
func (p *pod) listens(protocol, name string) []int32 {
	var numbers []int32
	for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && strings.EqualFold(cmp.Or(string(port.Protocol), "TCP"), protocol) {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

// selects is false for a selector that cannot be read: the API server refuses those.
func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}

// chooses says whether a peer of a policy in the namespace `home` means this pod.
func (w *world) chooses(peer networkingv1.NetworkPolicyPeer, home string, candidate *pod) bool {
	inside := candidate.Namespace == home
	if peer.NamespaceSelector != nil {
		inside = selects(peer.NamespaceSelector, w.namespaces[candidate.Namespace])
	}
	return peer.IPBlock == nil && inside && (peer.PodSelector == nil || selects(peer.PodSelector, candidate.Labels))
}
