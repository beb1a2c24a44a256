// Command standin enforces NetworkPolicies and ClusterNetworkPolicies with nftables, on the node that
// it runs on, for the tests of Yellowjack: no engine that can be installed without images does. It
// plays both kinds of real engines (--mode), and proves what Yellowjack does with an engine, never what
// a vendor's engine does. Not for use outside tests.
//
// One text per state of the cluster, applied as a whole and only when it differs from the last one.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// settle is how long to wait for more changes of the same moment: a policy and a label patch come
	// together, and each reload costs about 20 ms.
	settle = 5 * time.Millisecond
	// again is how often to try what failed, and to ask whether ClusterNetworkPolicy is served by now.
	again      = 500 * time.Millisecond
	nftTimeout = 10 * time.Second
	// lingering is how long a pod whose object vanished is still taken to hold its addresses: where it
	// was deleted with no grace its containers run on, 2 s on an idle node. Another pod that has the
	// address ends it at once.
	lingering = time.Minute
)

var clusterPolicies = schema.GroupVersionResource{
	Group: "policy.networking.k8s.io", Version: "v1alpha2", Resource: "clusternetworkpolicies",
}

type options struct {
	kubeconfig, node, netns, nft string
	perPacket                    bool
	podNetworks                  []netip.Prefix
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func parse(arguments []string) (o options, err error) {
	flags := flag.NewFlagSet("standin", flag.ExitOnError)
	flags.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "the `file` that names the API server")
	mode := flags.String("mode", "connection", "connection: established flows survive a new deny; packet: they do not")
	flags.StringVar(&o.node, "node-name", "", "enforce for the pods of this node alone; empty: for all pods")
	flags.StringVar(&o.nft, "nft", "nft", "the nft `program`")
	flags.StringVar(&o.netns, "netns", "", "network namespace to write the rules into, as a `path`; empty: this one")
	networks := flags.String("pod-cidr", "", "networks of pods, with commas; other addresses are no pod's; empty: any is")
	_ = flags.Parse(arguments) // exits by itself
	for _, text := range strings.FieldsFunc(*networks, func(r rune) bool { return r == ',' }) {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return o, fmt.Errorf("failed to read --pod-cidr: %w", err)
		}
		o.podNetworks = append(o.podNetworks, network)
	}
	if flags.NArg() > 0 || (*mode != "connection" && *mode != "packet") {
		return o, fmt.Errorf("unable to use %q; hint: --mode is connection or packet", append(flags.Args(), *mode))
	}
	o.perPacket = *mode == "packet"
	return o, nil
}

// run enforces until the context ends, then removes its table: a test leaves nothing behind. The rules
// of a killed process stay in force.
func run(ctx context.Context, o options) error {
	s, err := watch(ctx, o.kubeconfig)
	if err != nil {
		return err
	}
	defer func() {
		_ = apply(context.Background(), o, fmt.Sprintf("table %s {}\ndelete table %s\n", table, table))
	}()
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	var applied, complained string
	for generation := 1; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.watchClusterPolicies(ctx)
		case <-s.changed:
			time.Sleep(settle)
		}
		started := time.Now()
		rules := compile(s.world(o.podNetworks), o.perPacket, o.node)
		if problems := strings.Join(rules.problems, "; "); problems != complained {
			fmt.Fprintln(os.Stderr, "standin:", problems)
			complained = problems
		}
		if rules.text == applied {
			continue
		}
		compiled := time.Now()
		if err := apply(ctx, o, rules.text); ctx.Err() != nil {
			return nil
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "standin:", err)
			continue
		}
		applied = rules.text
		now := time.Now()
		fmt.Printf("applied generation=%d time=%s rules=%d pods=%d compile_ms=%.1f nft_ms=%.1f\n",
			generation, now.UTC().Format("2006-01-02T15:04:05.000Z"), rules.rules, rules.guarded,
			compiled.Sub(started).Seconds()*1e3, now.Sub(compiled).Seconds()*1e3)
		generation++
	}
}

// apply hands one transaction to nft.
func apply(ctx context.Context, o options, text string) error {
	ctx, cancel := context.WithTimeout(ctx, nftTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, o.nft, "-f", "-")
	if o.netns != "" {
		command = exec.CommandContext(ctx, "nsenter", "--net="+o.netns, o.nft, "-f", "-")
	}
	var said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(text), &said, &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("failed to apply the rules: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// source is a copy of what the API server says.
type source struct {
	client                               dynamic.Interface
	served                               discovery.DiscoveryInterface
	changed                              chan struct{}
	pods, namespaces, policies, clusters cache.Store
	lastSeen                             map[types.UID]sighting
}

type sighting struct {
	pod *corev1.Pod
	at  time.Time
}

// watch returns once everything that the API server serves now has been read.
func watch(ctx context.Context, kubeconfig string) (*source, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("failed to read the kubeconfig: %w", err)
	}
	config.QPS = -1 // attempts during an outage must not queue up
	client, err := dynamic.NewForConfig(config)
	served, another := discovery.NewDiscoveryClientForConfig(config)
	if err = errors.Join(err, another); err != nil {
		return nil, fmt.Errorf("failed to make a client: %w", err)
	}
	s := &source{client: client, served: served, changed: make(chan struct{}, 1), lastSeen: map[types.UID]sighting{}}
	s.pods = s.copy(ctx, corev1.SchemeGroupVersion.WithResource("pods"), nil)
	s.namespaces = s.copy(ctx, corev1.SchemeGroupVersion.WithResource("namespaces"), nil)
	s.policies = s.copy(ctx, networkingv1.SchemeGroupVersion.WithResource("networkpolicies"), nil)
	s.watchClusterPolicies(ctx)
	return s, ctx.Err()
}

// watchClusterPolicies does nothing while the API server does not serve them.
func (s *source) watchClusterPolicies(ctx context.Context) {
	if s.clusters != nil {
		return
	}
	if _, err := s.served.ServerResourcesForGroupVersion(clusterPolicies.GroupVersion().String()); err == nil {
		// A kind that is being removed still looks served, and cannot be listed.
		s.clusters = s.copy(ctx, clusterPolicies, time.After(2*time.Second))
	}
}

// copy follows what changes, and returns when it is complete, the limit has passed or the context has
// ended. It is no informer because those wait for half a minute and more to try again after an outage
// of the API server, and tests have such outages.
func (s *source) copy(ctx context.Context, resource schema.GroupVersionResource, limit <-chan time.Time) cache.Store {
	objects := s.client.Resource(resource)
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, options)
		},
		WatchFuncWithContext: objects.Watch,
	}
	whole := make(chan struct{}, 1)
	store := cache.NewUndeltaStore(func([]any) { mark(s.changed); mark(whole) }, cache.MetaNamespaceKeyFunc)
	options := cache.ReflectorOptions{Backoff: &wait.Backoff{Duration: again, Factor: 1, Steps: math.MaxInt}}
	go cache.NewReflectorWithOptions(lists, &unstructured.Unstructured{}, store, options).RunWithContext(ctx)
	select {
	case <-whole:
	case <-limit:
	case <-ctx.Done():
	}
	return store
}

// mark never blocks: one mark stands for any number of changes.
func mark(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

// running gives the pods that exist and those that vanished lately, marked as deleted.
func (s *source) running(now time.Time) []*corev1.Pod {
	pods := all[corev1.Pod](s.pods)
	for _, pod := range pods {
		s.lastSeen[pod.UID] = sighting{pod, now}
	}
	for uid, last := range s.lastSeen {
		if now.Sub(last.at) > lingering {
			delete(s.lastSeen, uid)
		} else if last.at != now {
			last.pod.DeletionTimestamp = &metav1.Time{Time: last.at}
			pods = append(pods, last.pod)
		}
	}
	return pods
}

func (s *source) world(podNetworks []netip.Prefix) *world {
	w := &world{
		pods:       holders(s.running(time.Now()), podNetworks),
		namespaces: map[string]labels.Set{},
		policies:   all[networkingv1.NetworkPolicy](s.policies),
	}
	for _, namespace := range all[corev1.Namespace](s.namespaces) {
		w.namespaces[namespace.Name] = namespace.Labels
	}
	if s.clusters != nil {
		w.clusterPolicies = all[clusterPolicy](s.clusters)
	}
	return w
}

// all gives a store's objects by name: a store has no order, and the rules need one.
func all[T any](store cache.Store) []*T {
	var objects []*T
	for _, key := range slices.Sorted(slices.Values(store.ListKeys())) {
		object, found, _ := store.GetByKey(key)
		typed := new(T)
		if found && runtime.DefaultUnstructuredConverter.FromUnstructured(object.(*unstructured.Unstructured).Object, typed) == nil {
			objects = append(objects, typed)
		}
	}
	return objects
}
