// What other programs take for the health of an object: kstatus (Flux and others) and Argo CD, each by its own code.
//
// Reads one JSON object a line, and answers each with one line of JSON.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/argoproj/argo-cd/v2/util/lua"
	"github.com/argoproj/gitops-engine/pkg/health"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const usage = "usage: judge kstatus | judge argo [--lua FILE]"

type verdict struct {
	Kstatus string `json:"kstatus,omitempty"`
	Argo    string `json:"argo,omitempty"`
	Message string `json:"message"`
}

type judge func(*unstructured.Unstructured) (verdict, error)

func kstatus(object *unstructured.Unstructured) (verdict, error) {
	result, err := status.Compute(object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{Kstatus: result.Status.String(), Message: result.Message}, nil
}

// By the script, or where there is none by what Argo CD itself knows of the kind.
func argo(script string) judge {
	return func(object *unstructured.Unstructured) (verdict, error) {
		var result *health.HealthStatus
		var err error
		if script == "" {
			result, err = health.GetResourceHealth(object, nil)
		} else {
			result, err = lua.VM{}.ExecuteHealthLua(object, script)
		}
		if err != nil {
			return verdict{}, err
		}
		if result == nil {
			return verdict{}, fmt.Errorf("Argo CD knows no health of %s without --lua", object.GetKind())
		}
		return verdict{Argo: string(result.Status), Message: result.Message}, nil
	}
}

func chosen(arguments []string) (judge, error) {
	if len(arguments) == 1 && arguments[0] == "kstatus" {
		return kstatus, nil
	}
	if len(arguments) == 0 || arguments[0] != "argo" {
		return nil, fmt.Errorf("%s", usage)
	}
	flags := flag.NewFlagSet("judge argo", flag.ContinueOnError)
	file := flags.String("lua", "", "file of the health script")
	if err := flags.Parse(arguments[1:]); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%s", usage)
	}
	if *file == "" {
		return argo(""), nil
	}
	script, err := os.ReadFile(*file)
	if err != nil {
		return nil, err
	}
	return argo(string(script)), nil
}

func run(arguments []string) error {
	judged, err := chosen(arguments)
	if err != nil {
		return err
	}
	input := json.NewDecoder(bufio.NewReader(os.Stdin))
	output := json.NewEncoder(os.Stdout)
	for {
		object := &unstructured.Unstructured{}
		if err := input.Decode(object); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("not a Kubernetes object: %w", err)
		}
		answer, err := judged(object)
		if err != nil {
			return fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		if err := output.Encode(answer); err != nil {
			return err
		}
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}
