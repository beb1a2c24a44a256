package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

func readWorld(t *testing.T, path string) *world {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{namespaces: map[string]labels.Set{}}
	var pods []*corev1.Pod
	for _, document := range strings.Split(string(text), "\n---\n") {
		var kind struct{ Kind string }
		into := func(object any) {
			if err := yaml.Unmarshal([]byte(document), object); err != nil {
				t.Fatal(err)
			}
		}
		into(&kind)
		switch kind.Kind {
		case "Namespace":
			var namespace corev1.Namespace
			into(&namespace)
			w.namespaces[namespace.Name] = namespace.Labels
		case "Pod":
			pods = append(pods, &corev1.Pod{})
			into(pods[len(pods)-1])
		case "NetworkPolicy":
			w.policies = append(w.policies, &networkingv1.NetworkPolicy{})
			into(w.policies[len(w.policies)-1])
		case "ClusterNetworkPolicy":
			w.clusterPolicies = append(w.clusterPolicies, &clusterPolicy{})
			into(w.clusterPolicies[len(w.clusterPolicies)-1])
		default:
			t.Fatalf("%s: unknown kind %q", path, kind.Kind)
		}
	}
	w.pods = holders(pods, nil)
	return w
}

// With UPDATE=1 the expected files are written anew.
func TestPoliciesBecomeTheExpectedRules(t *testing.T) {
	for _, name := range []string{"network-policies", "cluster-policies"} {
		for mode, perPacket := range map[string]bool{"connection": false, "packet": true} {
			path := filepath.Join("testdata", name+"."+mode+".nft")
			got := compile(readWorld(t, filepath.Join("testdata", name+".yaml")), perPacket, "").text
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(expected) {
				t.Errorf("%s: expected\n%s\ngot\n%s", path, expected, got)
			}
		}
	}
}

func TestNftAcceptsTheExpectedRules(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("skipped: needs nft")
	}
	paths, _ := filepath.Glob("testdata/*.nft")
	if len(paths) != 4 {
		t.Fatalf("expected 4 files, got %v", paths)
	}
	for _, path := range paths {
		// Twice: the second replaces the first.
		said, err := exec.Command("unshare", "-n", "sh", "-c", "nft -f "+path+" && nft -f "+path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", path, err, said)
		}
	}
}

func TestWhatIsNotUnderstoodIsNamedOnce(t *testing.T) {
	problems := compile(readWorld(t, "testdata/cluster-policies.yaml"), true, "").problems
	expected := []string{
		"rule 0 (egress: true) of ClusterNetworkPolicy baseline is not understood",
		"rule 1 (egress: false) of ClusterNetworkPolicy baseline is not understood",
	}
	slices.Sort(problems)
	if !slices.Equal(problems, expected) {
		t.Errorf("expected %q, got %q", expected, problems)
	}
}

func TestOnlyThePodsOfTheNodeAreGuarded(t *testing.T) {
	w := readWorld(t, "testdata/network-policies.yaml")
	w.pods[len(w.pods)-1].Spec.NodeName = "here"
	rules := compile(w, false, "here")
	if rules.guarded != 1 {
		t.Errorf("expected one guarded pod, got %d", rules.guarded)
	}
	if !strings.Contains(rules.text, "10.244.0.4") {
		t.Error("a peer on another node is no longer known")
	}
}

func holder(name string, age time.Duration, change func(*corev1.Pod)) *corev1.Pod {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(start.Add(-age))}}
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.2"}}
	if change != nil {
		change(p)
	}
	return p
}

func TestAnAddressBelongsToThePodThatHoldsItNow(t *testing.T) {
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	leaving := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }
	onHost := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	cases := map[string][]*corev1.Pod{
		"the other ended":          {holder("now", time.Hour, nil), holder("other", 0, ended)},
		"the other is deleted":     {holder("now", time.Hour, nil), holder("other", 0, leaving)},
		"the other is older":       {holder("other", time.Hour, nil), holder("now", 0, nil)},
		"the other is on the host": {holder("now", time.Hour, nil), holder("other", 0, onHost)},
		"it is deleted and alone":  {holder("now", time.Hour, leaving)},
	}
	for name, pods := range cases {
		var held []string
		for _, p := range holders(pods, nil) {
			for range p.addresses {
				held = append(held, p.Name)
			}
		}
		if !slices.Equal(held, []string{"now"}) {
			t.Errorf("%s: held by %q", name, held)
		}
	}
}
