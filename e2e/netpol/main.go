// Command netpol is the NetworkPolicy part of Kubernetes' own end-to-end suite in one file, with the
// kube-proxy that its Services need and the name of the image that its pods run. Nothing here knows
// of Yellowjack or of the policy stand-in: it judges whatever enforces the policies of a cluster.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
	"k8s.io/kubernetes/test/utils/image"
)

const usage = `usage: netpol suite [flags of the suite: --kubeconfig, --ginkgo.focus, --ginkgo.skip, ...]
       netpol image
       netpol kube-proxy [arguments]`

func main() {
	// kube-proxy may also be called through a link of its name.
	part := filepath.Base(os.Args[0])
	if part != "kube-proxy" {
		if len(os.Args) < 2 {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		os.Args = os.Args[1:]
		part = os.Args[0]
	}
	switch part {
	case "suite":
		os.Exit(runSuite())
	case "image":
		fmt.Println(image.GetE2EImage(image.Agnhost))
	case "kube-proxy":
		os.Exit(cli.Run(kubeproxy.NewProxyCommand()))
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
	framework.AfterReadingAllFlags(&framework.TestContext)
	logs.InitLogs()
	defer logs.FlushLogs()
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	result := &verdict{}
	ginkgo.RunSpecs(result, "NetworkPolicy", suite, reporter)
	if result.failed {
		return 1
	}
	return 0
}
