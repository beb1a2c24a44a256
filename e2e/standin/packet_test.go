package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// Real packets against a real API server. Pods are objects whose addresses the test sets, and
// namespaces that hold those addresses; no kubelet runs.

// changeLimit bounds the time from an accepted change to rules in force.
const changeLimit = 200 * time.Millisecond

const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: clusternetworkpolicies.policy.networking.k8s.io
  annotations: { api-approved.kubernetes.io: "unapproved, a stand-in for tests" }
spec:
  group: policy.networking.k8s.io
  scope: Cluster
  names: { kind: ClusterNetworkPolicy, plural: clusternetworkpolicies, singular: clusternetworkpolicy }
  versions:
    - name: v1alpha2
      served: true
      storage: true
      schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } }
`

// quarantine is what Yellowjack keeps standing: the deny that wins, and the one that can name sources
// outside the cluster.
const quarantine = `
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: standin-test-deny }
spec:
  tier: Admin
  priority: 0
  subject:
    pods:
      namespaceSelector: {}
      podSelector: { matchExpressions: [{ key: quarantine, operator: Exists }] }
  ingress: [{ action: Deny, from: [{ namespaces: {} }] }]
  egress: [{ action: Deny, to: [{ namespaces: {} }, { networks: [0.0.0.0/0, "::/0"] }] }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: deny }
spec:
  podSelector: { matchExpressions: [{ key: quarantine, operator: Exists }] }
  policyTypes: [Ingress, Egress]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: union-trap }
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{ to: [{ ipBlock: { cidr: 0.0.0.0/0 } }, { ipBlock: { cidr: "::/0" } }] }]
`

// cluster is a namespace of its own on the API server.
type cluster struct {
	t         *testing.T
	client    dynamic.Interface
	namespace string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Burst = 200, 400
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, client: client, namespace: fmt.Sprintf("standin-%d", time.Now().UnixNano())}
	c.put(fmt.Sprintf("{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", c.namespace))
	waitFor(t, "the namespace has a service account", func() bool {
		_, err := c.of("ServiceAccount").Get(t.Context(), "default", metav1.GetOptions{})
		return err == nil
	})
	return c
}

func (c *cluster) of(kind string) dynamic.ResourceInterface {
	resource := map[string]schema.GroupVersionResource{
		"Namespace":                {Version: "v1", Resource: "namespaces"},
		"Pod":                      {Version: "v1", Resource: "pods"},
		"ServiceAccount":           {Version: "v1", Resource: "serviceaccounts"},
		"NetworkPolicy":            {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
		"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		"ClusterNetworkPolicy":     clusterPolicies,
	}[kind]
	switch kind {
	case "Pod", "ServiceAccount", "NetworkPolicy":
		return c.client.Resource(resource).Namespace(c.namespace)
	}
	return c.client.Resource(resource)
}

// put creates objects, which go with the test.
func (c *cluster) put(text string) {
	c.t.Helper()
	for _, document := range strings.Split(text, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			c.t.Fatal(err)
		}
		store, name := c.of(object.GetKind()), object.GetName()
		if _, err := store.Create(c.t.Context(), object, metav1.CreateOptions{}); err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { _ = store.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	}
}

func (c *cluster) pod(name, labels string, number int) {
	c.t.Helper()
	c.put(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: { name: %s, labels: { name: %s%s } }
spec:
  schedulerName: none
  terminationGracePeriodSeconds: 0
  containers: [{ name: main, image: none, ports: [{ name: web, containerPort: 81 }] }]
`, name, name, labels))
	status := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"10.244.0.%d","podIPs":[{"ip":"10.244.0.%d"},{"ip":"fd00:244::%x"}]}}`, number, number, number)
	_, err := c.of("Pod").Patch(c.t.Context(), name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) patch(kind, name, patch string) {
	c.t.Helper()
	_, err := c.of(kind).Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) serveClusterPolicies() {
	c.t.Helper()
	definitions, policies := c.of("CustomResourceDefinition"), c.of("ClusterNetworkPolicy")
	waitFor(c.t, "the definition of an earlier test is gone", func() bool {
		_, err := definitions.Get(c.t.Context(), "clusternetworkpolicies.policy.networking.k8s.io", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	c.put(definition)
	waitFor(c.t, "ClusterNetworkPolicy is served", func() bool {
		_, err := policies.List(c.t.Context(), metav1.ListOptions{})
		return err == nil
	})
}

// engine is the stand-in itself, as a process.
type engine struct {
	t       *testing.T
	applied chan time.Time
	slowest time.Duration
}

func startEngine(t *testing.T, l *lab, mode string) *engine {
	t.Helper()
	built, err := exec.Command("./build.sh").Output()
	if err != nil {
		t.Fatalf("failed to build: %v", err)
	}
	// Should this process be killed, nothing else would end that one: the threads here come and go, so
	// a signal at the parent's death is no use.
	command := exec.Command("timeout", "--foreground", "120", strings.TrimSpace(string(built)), "--mode="+mode,
		"--netns="+l.node.path(), "--pod-cidr=10.244.0.0/24,fd00:244::/64")
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, applied: make(chan time.Time, 1000)}
	go func() {
		defer close(e.applied)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if os.Getenv("VERBOSE") != "" {
				fmt.Println(lines.Text())
			}
			e.applied <- time.Now()
		}
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		left, err := exec.Command("ip", "netns", "exec", l.node.name, "nft", "list", "tables").Output()
		if err != nil || strings.Contains(string(left), "yellowjack") {
			t.Errorf("the stand-in left tables behind: %v: %s", err, left)
		}
	})
	e.settled()
	t.Cleanup(func() {
		if e.slowest > 0 {
			fmt.Printf("%s: %s: slowest change %.0f ms\n", t.Name(), mode, e.slowest.Seconds()*1e3)
		}
	})
	return e
}

// settled waits until the rules are those of a state that was there when it was called.
func (e *engine) settled() {
	e.t.Helper()
	select {
	case <-e.applied:
	case <-time.After(stateLimit):
		e.t.Fatal("no rules were applied")
	}
	for quiet := false; !quiet; {
		select {
		case _, running := <-e.applied:
			quiet = !running
		case <-time.After(answerLimit):
			quiet = true
		}
	}
}

// soon makes one change and wants rules in force within changeLimit.
func (e *engine) soon(what string, change func()) {
	e.t.Helper()
	change()
	accepted := time.Now()
	select {
	case at, running := <-e.applied:
		if !running {
			e.t.Fatalf("%s: the stand-in has ended", what)
		}
		took := at.Sub(accepted)
		e.slowest = max(e.slowest, took)
		if took > changeLimit {
			e.t.Errorf("%s: rules after %v, later than %v", what, took, changeLimit)
		}
	case <-time.After(stateLimit):
		e.t.Fatalf("%s: no rules were applied", what)
	}
}

// missing says why no packet can be sent; empty where it can.
func missing() string {
	if os.Getuid() != 0 {
		return "root"
	}
	for _, program := range []string{"ip", "nft", "nsenter", "timeout"} {
		if _, err := exec.LookPath(program); err != nil {
			return "the program " + program
		}
	}
	if os.Getenv("KUBECONFIG") == "" {
		return "an API server in KUBECONFIG (make e2e-standin)"
	}
	return ""
}

// TestMain says aloud what go test would keep for itself.
func TestMain(m *testing.M) {
	if what := missing(); what != "" {
		fmt.Println("skipped: tests with real packets, which need", what)
	}
	os.Exit(m.Run())
}

func skipWithout(t *testing.T) {
	t.Helper()
	if what := missing(); what != "" {
		t.Skip("skipped: needs " + what)
	}
}

// route is a way for a new connection, with the answer that is expected.
type route struct {
	from             netns
	network, address string
	port             int
}

func (r route) String() string {
	return fmt.Sprintf("%s to %s %s %d", r.from.name, r.network, r.address, r.port)
}

func expect(t *testing.T, open bool, routes ...route) {
	t.Helper()
	for _, r := range routes {
		if got := reaches(r.from, r.network, r.address, r.port); got != open {
			t.Errorf("%v: expected reachable %v, got %v", r, open, got)
		}
	}
}

func TestQuarantineCutsRealTraffic(t *testing.T) {
	skipWithout(t)
	for _, mode := range []string{"connection", "packet"} {
		t.Run(mode, func(t *testing.T) { quarantineCuts(t, mode) })
	}
}

func quarantineCuts(t *testing.T, mode string) {
	l := newLab(t, map[string]int{"rogue": 2, "honest": 3})
	rogue, friend := l.pods["rogue"], l.pods["honest"]
	c := newCluster(t)
	c.serveClusterPolicies()
	c.put(quarantine)
	c.pod("rogue", "", 2)
	c.pod("honest", "", 3)
	e := startEngine(t, l, mode)

	outgoing := []route{
		{rogue, "tcp", outside4, 80},
		{rogue, "tcp", outside6, 80},
		{rogue, "udp", outside4, 80},
		{rogue, "tcp", "10.244.0.3", 80},
		{rogue, "tcp", "fd00:244::3", 80},
		{rogue, "tcp", node4, 80}, // the node itself
	}
	incoming := []route{
		{l.outside, "tcp", "10.244.0.2", 80},
		{l.outside, "tcp", "fd00:244::2", 80},
		{friend, "tcp", "10.244.0.2", 80},
	}
	all := append(outgoing, incoming...)
	expect(t, true, all...)
	var flows []*flow
	for _, r := range all {
		f, err := open(r.from, r.network, r.address, r.port)
		if err != nil || !f.answers(stateLimit) {
			t.Fatalf("%v: %v", r, err)
		}
		defer f.Close()
		flows = append(flows, f)
	}
	talk := keepTalking(t, friend, outside4)

	e.soon(mode+".quarantine", func() {
		c.patch("Pod", "rogue", `{"metadata":{"labels":{"quarantine":"incident"}}}`)
	})
	expect(t, false, all...)
	// What the kubelet does is not judged.
	expect(t, true, route{l.node, "tcp", "10.244.0.2", 80})
	for i, f := range flows {
		if alive := f.answers(answerLimit); alive != (mode == "connection") {
			t.Errorf("%v: opened before, alive %v", all[i], alive)
		}
	}

	e.soon(mode+".release", func() {
		c.patch("Pod", "rogue", `{"metadata":{"labels":{"quarantine":null}}}`)
	})
	expect(t, true, all...)
	talk.end(t)
}

func TestAnAddressThatIsUsedAgainGetsThePoliciesOfItsNewPod(t *testing.T) {
	skipWithout(t)
	l := newLab(t, map[string]int{"rogue": 2})
	c := newCluster(t)
	c.put(strings.Split(quarantine, "\n---\n")[1]) // the NetworkPolicy alone
	c.pod("rogue", ", quarantine: incident", 2)
	e := startEngine(t, l, "packet")
	out := route{l.pods["rogue"], "tcp", outside4, 80}
	expect(t, false, out)
	// With no grace its containers would still run.
	if err := c.of("Pod").Delete(t.Context(), "rogue", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the pod is gone", func() bool {
		_, err := c.of("Pod").Get(t.Context(), "rogue", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	expect(t, false, out)
	e.soon("newcomer", func() { c.pod("newcomer", "", 2) })
	expect(t, true, out)
	e.soon("default deny", func() {
		c.put(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: all }
spec: { podSelector: {}, policyTypes: [Egress] }
`)
	})
	expect(t, false, out)
}

func TestAReloadLetsNothingThrough(t *testing.T) {
	skipWithout(t)
	l := newLab(t, map[string]int{"rogue": 2, "honest": 3})
	c := newCluster(t)
	c.put(strings.Split(quarantine, "\n---\n")[1])
	c.pod("rogue", ", quarantine: incident", 2)
	c.pod("honest", "", 3)
	e := startEngine(t, l, "packet")
	arrived := count(t, l.outside, 7777)
	sent := flood(t, l.pods["rogue"], outside4, 7777)
	for i := range 20 {
		value := map[bool]string{true: `"incident"`, false: "null"}[i%2 == 0]
		e.soon("packet.reload", func() {
			c.patch("Pod", "honest", `{"metadata":{"labels":{"quarantine":`+value+`}}}`)
		})
	}
	if sent.Load() < 1000 || arrived.Load() > 0 {
		t.Errorf("of %d packets %d arrived", sent.Load(), arrived.Load())
	}
	// That they would have been counted.
	c.patch("Pod", "rogue", `{"metadata":{"labels":{"quarantine":null}}}`)
	waitFor(t, "packets arrive after the release", func() bool { return arrived.Load() > 0 })
}

func TestAKindThatIsServedLaterIsEnforced(t *testing.T) {
	skipWithout(t)
	l := newLab(t, map[string]int{"rogue": 2})
	c := newCluster(t)
	c.pod("rogue", ", quarantine: incident", 2)
	startEngine(t, l, "connection")
	out := route{l.pods["rogue"], "tcp", outside6, 80}
	expect(t, true, out)
	c.serveClusterPolicies()
	c.put(strings.Split(quarantine, "\n---\n")[0]) // the ClusterNetworkPolicy alone
	waitFor(t, "the deny is in force", func() bool { return !reaches(out.from, out.network, out.address, out.port) })
}

func TestADenyOfEgressLeavesWhatWasOpenedIntoThePod(t *testing.T) {
	skipWithout(t)
	l := newLab(t, map[string]int{"rogue": 2})
	c := newCluster(t)
	c.pod("rogue", "", 2)
	e := startEngine(t, l, "packet")
	in := route{l.outside, "tcp", "10.244.0.2", 80}
	f, err := open(in.from, in.network, in.address, in.port)
	if err != nil || !f.answers(stateLimit) {
		t.Fatal("unable to connect into the pod", err)
	}
	defer f.Close()
	e.soon("packet.egress-deny", func() {
		c.put(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: out }
spec: { podSelector: {}, policyTypes: [Egress] }
`)
	})
	expect(t, false, route{l.pods["rogue"], "tcp", outside4, 80})
	if !f.answers(answerLimit) {
		t.Error("the flow into the pod was cut by a deny of egress")
	}
	expect(t, true, in)
}

func TestRulesAllowWhatTheyNameAndNothingElse(t *testing.T) {
	skipWithout(t)
	l := newLab(t, map[string]int{"server": 2, "client": 3, "other": 4})
	c := newCluster(t)
	c.pod("server", "", 2)
	c.pod("client", "", 3)
	c.pod("other", "", 4)
	c.put(`
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: server }
spec:
  podSelector: { matchLabels: { name: server } }
  policyTypes: [Ingress]
  ingress:
    - from: [{ podSelector: { matchLabels: { name: client } } }]
      ports: [{ port: web }, { port: 9000, endPort: 9010 }]
    - from: [{ ipBlock: { cidr: 198.51.0.0/16, except: [198.51.101.0/24] } }]
      ports: [{ protocol: UDP, port: 80 }]
    - from: [{ ipBlock: { cidr: "2001:db8::/32", except: ["2001:db8:51::/48"] } }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: other }
spec:
  podSelector: { matchLabels: { name: other } }
  policyTypes: [Egress]
  egress:
    - to: [{ podSelector: { matchLabels: { name: client } } }]
      ports: [{ port: web }]
`)
	for _, mode := range []string{"connection", "packet"} {
		t.Run(mode, func(t *testing.T) {
			startEngine(t, l, mode)
			client, other := l.pods["client"], l.pods["other"]
			expect(t, true,
				route{client, "tcp", "10.244.0.2", 81}, route{client, "tcp", "fd00:244::2", 81},
				route{client, "tcp", "10.244.0.2", 9005}, route{l.outside, "udp", "10.244.0.2", 80},
				route{other, "tcp", "10.244.0.3", 81}, route{other, "tcp", "fd00:244::3", 81},
				route{l.pods["server"], "tcp", outside4, 80}, route{client, "udp", outside6, 80})
			expect(t, false,
				route{client, "tcp", "10.244.0.2", 80}, route{client, "tcp", "fd00:244::2", 80},
				route{client, "udp", "10.244.0.2", 81}, route{l.outside, "tcp", "10.244.0.2", 80},
				route{l.outside, "udp", "10.244.0.2", 81}, route{l.outside, "udp", "fd00:244::2", 80},
				route{other, "tcp", "10.244.0.3", 80}, route{other, "tcp", "10.244.0.2", 81},
				route{other, "tcp", outside4, 80})
		})
	}
}
