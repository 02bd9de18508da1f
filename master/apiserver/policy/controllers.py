"""Upstream's roles for its controllers, each held by a ServiceAccount of the same name. Data only.

Notation: a line without indent names a role, `+edit` its label to be aggregated to `edit`, `<edit` that it is itself
aggregated so; an indented line is a rule: verbs, `@group,group` (the core group where there is none), resources or
paths, `[names]`. `read` is get, list and watch; `write` the verbs that change; `all` both.
Source, as of 1.37: k/k `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go`.
"""

CLUSTER_ROLES = """
attachdetach-controller
  list watch: persistentvolumeclaims persistentvolumes
  read: nodes
  patch update: nodes/status
  list watch: pods
  create patch update @core,events.k8s.io: events
  read create delete @storage.k8s.io: volumeattachments
  read @storage.k8s.io: csidrivers
  read @storage.k8s.io: csinodes
certificate-controller
  read delete @certificates.k8s.io: certificatesigningrequests
  update @certificates.k8s.io: certificatesigningrequests/approval certificatesigningrequests/status
  approve @certificates.k8s.io: signers [kubernetes.io/kube-apiserver-client-kubelet]
  sign @certificates.k8s.io: signers [kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet
      kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown]
  create @authorization.k8s.io: subjectaccessreviews
  create patch update @core,events.k8s.io: events
clusterrole-aggregation-controller
  read escalate patch update @rbac.authorization.k8s.io: clusterroles
cronjob-controller
  read update @batch: cronjobs
  read create delete patch update @batch: jobs
  update @batch: cronjobs/status
  update @batch: cronjobs/finalizers
  delete list watch: pods
  create patch update @core,events.k8s.io: events
daemon-set-controller
  read @apps,extensions: daemonsets
  update @apps,extensions: daemonsets/status
  update @apps,extensions: daemonsets/finalizers
  list watch: nodes
  create delete list patch watch: pods
  create: pods/binding
  read create delete patch update @apps: controllerrevisions
  create patch update @core,events.k8s.io: events
deployment-controller
  read update @apps,extensions: deployments
  update @apps,extensions: deployments/status
  update @apps,extensions: deployments/finalizers
  read create delete patch update @apps,extensions: replicasets
  read update: pods
  create patch update @core,events.k8s.io: events
device-taint-eviction-controller
  read delete: pods
  patch update: pods/status
  read @resource.k8s.io: resourceclaims
  read @resource.k8s.io: resourceslices
  read @resource.k8s.io: deviceclasses
  create patch update @core,events.k8s.io: events
  patch update @resource.k8s.io: devicetaintrules/status
  read @resource.k8s.io: devicetaintrules
disruption-controller
  read @apps,extensions: deployments
  read @apps,extensions: replicasets
  read: replicationcontrollers
  read @policy: poddisruptionbudgets
  read @apps: statefulsets
  update @policy: poddisruptionbudgets/status
  patch update: pods/status
  get @*: */scale
  create patch update @core,events.k8s.io: events
endpoint-controller
  read: pods services
  read create delete update: endpoints
  create: endpoints/restricted
  create patch update @core,events.k8s.io: events
endpointslice-controller
  read: nodes pods services
  update: services/finalizers
  read create delete update @discovery.k8s.io: endpointslices
  create patch update @core,events.k8s.io: events
endpointslicemirroring-controller
  read: endpoints services
  update: services/finalizers
  update: endpoints/finalizers
  read create delete update @discovery.k8s.io: endpointslices
  create patch update @core,events.k8s.io: events
ephemeral-volume-controller
  read: pods
  update: pods/finalizers
  read create: persistentvolumeclaims
  create patch update @core,events.k8s.io: events
expand-controller
  read patch update: persistentvolumes
  patch update: persistentvolumeclaims/status
  read: persistentvolumeclaims
  create patch update @core,events.k8s.io: events
generic-garbage-collector
  read delete patch update @*: *
  create patch update @core,events.k8s.io: events
horizontal-pod-autoscaler
  read @autoscaling: horizontalpodautoscalers
  update @autoscaling: horizontalpodautoscalers/status
  get update @*: */scale
  list watch: pods
  list watch @metrics.k8s.io: pods
  read @custom.metrics.k8s.io: *
  read @external.metrics.k8s.io: *
  create patch update @core,events.k8s.io: events
job-controller
  read patch update @batch: jobs
  update @batch: jobs/status
  update @batch: jobs/finalizers
  create delete list patch watch: pods
  create patch update @core,events.k8s.io: events
kube-apiserver-serving-clustertrustbundle-publisher
  attest @certificates.k8s.io: signers [kubernetes.io/kube-apiserver-serving]
  create delete list update watch @certificates.k8s.io: clustertrustbundles
  create patch update @core,events.k8s.io: events
legacy-service-account-token-cleaner
  get: configmaps [kube-apiserver-legacy-service-account-token-tracking]
  delete patch: secrets
namespace-controller
  read delete: namespaces
  update: namespaces/finalize namespaces/status
  read delete deletecollection @*: *
node-controller
  read delete patch update: nodes
  patch update: nodes/status
  patch update: pods/status
  read delete: pods
  read @coordination.k8s.io: leases
  create patch update @core,events.k8s.io: events
persistent-volume-binder
  read create delete update: persistentvolumes
  update: persistentvolumes/status
  read update: persistentvolumeclaims
  update: persistentvolumeclaims/status
  read create delete: pods
  read @storage.k8s.io: storageclasses
  list watch: nodes
  create patch update @core,events.k8s.io: events
  watch: events
pod-garbage-collector
  delete list watch: pods
  read: nodes
  patch: pods/status
podcertificaterequestcleaner
  read delete @certificates.k8s.io: podcertificaterequests
pv-protection-controller
  read update: persistentvolumes
  create patch update @core,events.k8s.io: events
pvc-protection-controller
  read update: persistentvolumeclaims
  update: persistentvolumeclaims/status
  read: pods
  create patch update @core,events.k8s.io: events
replicaset-controller
  read update @apps,extensions: replicasets
  update @apps,extensions: replicasets/status
  update @apps,extensions: replicasets/finalizers
  create delete list patch watch: pods
  create patch update @core,events.k8s.io: events
replication-controller
  read update: replicationcontrollers
  update: replicationcontrollers/status
  update: replicationcontrollers/finalizers
  create delete list patch watch: pods
  create patch update @core,events.k8s.io: events
resource-claim-controller
  read: pods
  update: pods/finalizers
  read create delete @resource.k8s.io: resourceclaims
  patch update @resource.k8s.io: resourceclaims resourceclaims/status
  patch update: pods/status
  create patch update @core,events.k8s.io: events
  patch update @resource.k8s.io: resourceclaims/binding
resourcequota-controller
  list watch @*: *
  update: resourcequotas/status
  create patch update @core,events.k8s.io: events
root-ca-cert-publisher
  create update: configmaps
  create patch update @core,events.k8s.io: events
route-controller
  list watch: nodes
  patch: nodes/status
  create patch update @core,events.k8s.io: events
selinux-warning-controller
  create patch update @core,events.k8s.io: events
  read: persistentvolumes
  read: persistentvolumeclaims
  read: pods
  read @storage.k8s.io: csidrivers
service-account-controller
  create: serviceaccounts
  create patch update @core,events.k8s.io: events
service-cidrs-controller
  read patch update @networking.k8s.io: servicecidrs
  patch update @networking.k8s.io: servicecidrs/finalizers
  patch update @networking.k8s.io: servicecidrs/status
  read @networking.k8s.io: ipaddresses
  create patch update @core,events.k8s.io: events
service-controller
  read: services
  patch update: services/status
  list watch: nodes
  create patch update @core,events.k8s.io: events
statefulset-controller
  list watch: pods
  read @apps: statefulsets
  update @apps: statefulsets/status
  update @apps: statefulsets/finalizers
  create delete get patch update: pods
  read create delete patch update @apps: controllerrevisions
  read create: persistentvolumeclaims
  delete update: persistentvolumeclaims
  update: pods/finalizers
  create patch update @core,events.k8s.io: events
storage-version-migrator-controller
  list patch @*: *
  get @apiextensions.k8s.io: customresourcedefinitions
  patch @apiextensions.k8s.io: customresourcedefinitions/status
  update @storagemigration.k8s.io: storageversionmigrations/status
ttl-after-finished-controller
  read delete @batch: jobs
  create patch update @core,events.k8s.io: events
ttl-controller
  list patch update watch: nodes
  create patch update @core,events.k8s.io: events
validatingadmissionpolicy-status-controller
  read @admissionregistration.k8s.io: validatingadmissionpolicies
  get patch update @admissionregistration.k8s.io: validatingadmissionpolicies/status
  create patch update @core,events.k8s.io: events
volumeattributesclass-protection-controller
  read: persistentvolumeclaims
  read: persistentvolumes
  read update @storage.k8s.io: volumeattributesclasses
  create patch update @core,events.k8s.io: events
"""
