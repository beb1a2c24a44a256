// Command netpol is the NetworkPolicy part of Kubernetes' own end-to-end suite in one file, and the
// name of the image that its pods run. Nothing here knows of Yellowjack or of the policy stand-in: it
// judges whatever enforces the policies of a cluster. Its last lines are the figures netpol.run and
// netpol.passed.
package main

import (
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/component-base/logs"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
	"k8s.io/kubernetes/test/utils/image"
)

const usage = `usage: netpol suite [--shards=N] [flags of the suite: --kubeconfig, --ginkgo.focus, --ginkgo.skip, ...]
       netpol image`

// shards is in how many processes to run the suite: its specs wait most of the time. A process that
// has a shard runs only the specs of that one.
var (
	shards = flag.Int("shards", 1, "number of processes that share the specs")
	shard  = flag.Int("shard", -1, "which of them this one is")
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	switch os.Args[0] {
	case "suite":
		os.Exit(runSuite())
	case "image":
		fmt.Println(image.GetE2EImage(image.Agnhost))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// verdict stands where `go test` would hand over its *testing.T.
type verdict struct{ failed bool }

func (v *verdict) Fail() { v.failed = true }

func runSuite() int {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if *shards > 1 && *shard < 0 {
		return runShards(*shards)
	}
	framework.AfterReadingAllFlags(&framework.TestContext)
	logs.InitLogs()
	defer logs.FlushLogs()
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	ginkgo.BeforeEach(skipOthers)
	var report types.Report
	ginkgo.ReportAfterSuite("figures", func(r types.Report) { report = r })
	result := &verdict{}
	ginkgo.RunSpecs(result, "NetworkPolicy", suite, reporter)
	printFigures(report)
	if result.failed {
		return 1
	}
	return 0
}

func skipOthers() {
	sum := fnv.New32a()
	sum.Write([]byte(ginkgo.CurrentSpecReport().FullText()))
	if *shard >= 0 && int(sum.Sum32())%*shards != *shard {
		ginkgo.Skip("belongs to another shard")
	}
}

func printFigures(report types.Report) {
	run, passed := 0, 0
	for _, spec := range report.SpecReports {
		switch {
		case spec.LeafNodeType != types.NodeTypeIt || spec.State.Is(types.SpecStateSkipped|types.SpecStatePending):
			continue
		case spec.State.Is(types.SpecStatePassed):
			passed++
		default:
			fmt.Printf("not passed: %s\n", spec.FullText())
		}
		run++
	}
	fmt.Printf(figures, run, passed)
}

const figures = "figure netpol.run %d count\nfigure netpol.passed %d count\n"

// runShards prints what a shard said only where not all of it passed.
func runShards(count int) int {
	type outcome struct {
		said string
		err  error
	}
	outcomes := make(chan outcome)
	for i := range count {
		arguments := append(slices.Clone(os.Args), fmt.Sprintf("--shard=%d", i))
		go func() {
			said, err := exec.Command("/proc/self/exe", arguments...).CombinedOutput()
			outcomes <- outcome{string(said), err}
		}()
	}
	run, passed, code := 0, 0, 0
	for range count {
		ended := <-outcomes
		var itsRun, itsPassed int
		at := strings.LastIndex(ended.said, "figure netpol.run")
		if _, err := fmt.Sscanf(ended.said[max(at, 0):], figures, &itsRun, &itsPassed); err != nil || ended.err != nil {
			fmt.Println(ended.said)
			code = 1
		}
		run, passed = run+itsRun, passed+itsPassed
		fmt.Printf("a shard has ended: %d of %d passed\n", itsPassed, itsRun)
	}
	fmt.Printf(figures, run, passed)
	return code
}
