// Command goclient is a client-go program for the end-to-end tests: typed clients speak protobuf, as kubectl's do.
// Each subcommand does one thing a controller does and prints what it saw, one line each; exit code 1 with the error.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const (
	protobufType = "application/vnd.kubernetes.protobuf"
	deadline     = 60 * time.Second
)

var commands = map[string]func(ctx context.Context, config *rest.Config, arguments []string) error{
	"crud":     crud,
	"dynamic":  dynamicObjects,
	"discover": discover,
	"informer": informer,
	"metadata": metadataInformer,
	"lead":     lead,
}

func init() {
	fail(apiextensionsv1.AddToScheme(scheme.Scheme))
	fail(apiregistrationv1.AddToScheme(scheme.Scheme))
	fail(metav1.AddMetaToScheme(scheme.Scheme))
}

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: goclient COMMAND [ARGUMENT...]"))
	}
	switch name := os.Args[1]; name {
	case "encode":
		fail(eachLine(encode))
	case "decode":
		fail(eachLine(decode))
	default:
		command, ok := commands[name]
		if !ok {
			fail(fmt.Errorf("no command %q", name))
		}
		config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
		fail(err)
		config.ContentType = protobufType
		config.AcceptContentTypes = protobufType // nothing else will do
		fail(command(context.Background(), config, os.Args[2:]))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "goclient:", err)
		os.Exit(1)
	}
}

func typed(config *rest.Config) (*kubernetes.Clientset, error) {
	return kubernetes.NewForConfig(config)
}

func say(words ...any) { fmt.Println(words...) }

// eachLine answers every line of standard input with one line.
func eachLine(answer func(line []byte) (string, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		text, err := answer(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		fmt.Println(text)
	}
	return lines.Err()
}

// encode turns an object's JSON into base64 of the protobuf that Go makes of it.
func encode(line []byte) (string, error) {
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(line, nil, nil)
	if err != nil {
		return "", err
	}
	body, err := runtime.Encode(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), object)
	return base64.StdEncoding.EncodeToString(body), err
}

// decode turns base64 of a protobuf body into the JSON that Go makes of it.
func decode(line []byte) (string, error) {
	body, err := base64.StdEncoding.DecodeString(string(line))
	if err != nil {
		return "", err
	}
	object, kind, err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Decode(body, nil, nil)
	if err != nil {
		return "", err
	}
	object.GetObjectKind().SetGroupVersionKind(*kind)
	text, err := json.Marshal(object)
	return string(text), err
}
