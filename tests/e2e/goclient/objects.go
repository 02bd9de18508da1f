package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/kube-openapi/pkg/util/proto"
)

func deployment(name string) *appsv1.Deployment {
	replicas, unavailable := int32(2), intstr.FromString("25%")
	labels := map[string]string{"app": name}
	pod := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{
				Name:  "c",
				Image: "lab.local/web:1",
				Env:   []corev1.EnvVar{{Name: "EMPTY"}, {Name: "SET", Value: "ü"}},
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
				},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}},
			}},
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
		},
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: pod,
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable}},
		},
	}
}

// crud takes a namespace and goes through every verb with typed objects.
func crud(ctx context.Context, config *rest.Config, arguments []string) error {
	clients, err := typed(config)
	if err != nil {
		return err
	}
	api := clients.AppsV1().Deployments(arguments[0])
	made, err := api.Create(ctx, deployment("web"), metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		return err
	}
	container := made.Spec.Template.Spec.Containers[0]
	say("created", made.Name, made.Spec.Strategy.RollingUpdate.MaxSurge.String(), container.Resources.Requests.Cpu().String(), len(made.Spec.Template.Spec.Volumes))
	if _, err = api.Create(ctx, deployment("web"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("a second create: %w", err)
	}
	listed, err := api.List(ctx, metav1.ListOptions{LabelSelector: "!absent", Limit: 10})
	if err != nil {
		return err
	}
	say("listed", len(listed.Items), listed.Items[0].Name, listed.ResourceVersion != "")
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found, err := api.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		*found.Spec.Replicas = 3
		found.Labels = map[string]string{"by": "update"}
		_, err = api.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if _, err = api.Update(ctx, made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		return fmt.Errorf("an update of an old version: %w", err)
	}
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"lab.local/web:2"}]}}}}`)
	patched, err := api.Patch(ctx, "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	say("patched", *patched.Spec.Replicas, patched.Labels["by"], patched.Spec.Template.Spec.Containers[0].Image, patched.Generation)
	scale, err := api.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return err
	}
	scale.Spec.Replicas = 1
	if scale, err = api.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil {
		return err
	}
	say("scaled", scale.Spec.Replicas)
	policy := metav1.DeletePropagationBackground
	stale := types.UID("somebody-else")
	err = api.Delete(ctx, "web", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &stale}})
	if !apierrors.IsConflict(err) {
		return fmt.Errorf("a delete with another object's UID: %w", err)
	}
	if err = api.Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: &policy, Preconditions: &metav1.Preconditions{UID: &made.UID}}); err != nil {
		return err
	}
	_, err = api.Get(ctx, "web", metav1.GetOptions{})
	say("deleted", apierrors.IsNotFound(err), err)
	bad := deployment("Not A Name")
	_, err = api.Create(ctx, bad, metav1.CreateOptions{})
	status := apierrors.APIStatus(nil)
	if !apierrors.IsInvalid(err) || !asStatus(err, &status) {
		return fmt.Errorf("a bad name: %w", err)
	}
	say("invalid", status.Status().Details.Causes[0].Field)
	return nil
}

func asStatus(err error, status *apierrors.APIStatus) bool {
	found, ok := err.(apierrors.APIStatus)
	*status = found
	return ok
}

// dynamicObjects does the same without types, and keeps fields that no type knows.
func dynamicObjects(ctx context.Context, config *rest.Config, arguments []string) error {
	clients, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	api := clients.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(arguments[0])
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "dynamic"}, "data": map[string]any{"a": "1"},
	}}
	if object, err = api.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err = unstructured.SetNestedField(object.Object, "2", "data", "a"); err != nil {
		return err
	}
	if object, err = api.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
		return err
	}
	value, _, _ := unstructured.NestedString(object.Object, "data", "a")
	if _, err = api.Patch(ctx, "dynamic", types.MergePatchType, []byte(`{"data":{"b":"3"}}`), metav1.PatchOptions{}); err != nil {
		return err
	}
	listed, err := api.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=dynamic"})
	if err != nil {
		return err
	}
	data, _, _ := unstructured.NestedMap(listed.Items[0].Object, "data")
	say("dynamic", value, data["a"], data["b"])
	return api.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{FieldSelector: "metadata.name=dynamic"})
}

// discover prints the server's version and how many resources it serves.
func discover(_ context.Context, config *rest.Config, _ []string) error {
	clients, err := typed(config)
	if err != nil {
		return err
	}
	version, err := clients.Discovery().ServerVersion()
	if err != nil {
		return err
	}
	groups, resources, err := clients.Discovery().ServerGroupsAndResources()
	if err != nil {
		return err
	}
	say("version", version.Major, version.Minor, len(groups) > 20, len(resources) > 20)
	document, err := clients.Discovery().OpenAPISchema()
	if err != nil {
		return err
	}
	models, err := proto.NewOpenAPIData(document)
	if err != nil {
		return err
	}
	pod := models.LookupModel("io.k8s.api.core.v1.Pod").(*proto.Kind)
	say("openapi", len(document.Paths.Path) > 200, pod.Fields["spec"].GetPath(), pod.Extensions["x-kubernetes-group-version-kind"])
	third, err := clients.Discovery().OpenAPIV3().Paths()
	if err != nil {
		return err
	}
	schema, err := third["apis/apps/v1"].Schema("application/json")
	if err != nil {
		return err
	}
	say("openapi v3", len(third) > 20, len(schema) > 10_000)
	return nil
}
