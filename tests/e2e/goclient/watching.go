package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// told prints each event with the object's name and resourceVersion; nothing is resynchronised.
func told(detail func(object any) string) cache.ResourceEventHandlerFuncs {
	line := func(what string, object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		found := object.(v1.Object)
		say(what, found.GetName(), found.GetResourceVersion(), detail(object))
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { line("added", object) },
		UpdateFunc: func(old, object any) {
			if old.(v1.Object).GetResourceVersion() != object.(v1.Object).GetResourceVersion() {
				line("updated", object)
			}
		},
		DeleteFunc: func(object any) { line("deleted", object) },
	}
}

func follow(shared cache.SharedIndexInformer, detail func(object any) string, start func(stop <-chan struct{})) error {
	if _, err := shared.AddEventHandler(told(detail)); err != nil {
		return err
	}
	stop := make(chan struct{})
	start(stop)
	limit := make(chan struct{})
	time.AfterFunc(deadline, func() { close(limit) })
	if !cache.WaitForCacheSync(limit, shared.HasSynced) {
		return errors.New("the informer did not synchronise")
	}
	say("synced")
	bufio.NewScanner(os.Stdin).Scan() // until the test says so, or is gone
	close(stop)
	return nil
}

// informer follows the config maps of a namespace until standard input ends.
func informer(_ context.Context, config *rest.Config, arguments []string) error {
	clients, err := typed(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(arguments[0]))
	shared := factory.Core().V1().ConfigMaps().Informer()
	return follow(shared, func(object any) string { return object.(*corev1.ConfigMap).Data["a"] }, factory.Start)
}

// metadataInformer follows only their metadata.
func metadataInformer(_ context.Context, config *rest.Config, arguments []string) error {
	clients, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := metadatainformer.NewFilteredSharedInformerFactory(clients, 0, arguments[0], nil)
	shared := factory.ForResource(corev1.SchemeGroupVersion.WithResource("configmaps")).Informer()
	return follow(shared, func(object any) string { return object.(*v1.PartialObjectMetadata).Labels["a"] }, factory.Start)
}

// lead takes part in an election in a namespace under an identity, until standard input ends.
func lead(ctx context.Context, config *rest.Config, arguments []string) error {
	clients, err := typed(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		bufio.NewScanner(os.Stdin).Scan()
		cancel()
	}()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  v1.ObjectMeta{Namespace: arguments[0], Name: "goclient"},
		Client:     clients.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: arguments[1]},
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   3 * time.Second,
		RenewDeadline:   2 * time.Second,
		RetryPeriod:     250 * time.Millisecond,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { say("leading") },
			OnStoppedLeading: func() { say("stopped") },
			OnNewLeader:      func(identity string) { say("leader", identity) },
		},
	})
	return nil
}
