"""Upstream's default roles for people and components, and who holds them. Data only.

Notation: a line without indent names a role, `+edit` its label to be aggregated to `edit`, `<edit` that it is itself
aggregated so; an indented line is a rule: verbs, `@group,group` (the core group where there is none), resources or
paths, `[names]`. `read` is get, list and watch; `write` the verbs that change; `all` both.
Source, as of 1.37: k/k `plugin/pkg/auth/authorizer/rbac/bootstrappolicy/{policy,namespace_policy}.go`.
"""

CLUSTER_ROLES = """
admin <admin
cluster-admin
  * @*: *
  *: *
edit +admin <edit
system:aggregate-to-admin +admin
  create @authorization.k8s.io: localsubjectaccessreviews
  all @rbac.authorization.k8s.io: rolebindings roles
system:aggregate-to-edit +edit
  read: pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy
  impersonate: serviceaccounts
  write: pods pods/attach pods/exec pods/portforward pods/proxy
  create: pods/eviction
  write: configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts
      services services/proxy
  create: serviceaccounts/token
  write @core,events.k8s.io: events
  write @apps: daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale
      statefulsets statefulsets/scale
  write @autoscaling: horizontalpodautoscalers
  write @batch: cronjobs jobs
  write @extensions: daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies
      replicasets replicasets/scale replicationcontrollers/scale
  write @policy: poddisruptionbudgets
  write @networking.k8s.io: ingresses networkpolicies
  all @coordination.k8s.io: leases
  write @resource.k8s.io: resourceclaims resourceclaimtemplates
system:aggregate-to-view +view
  read: configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers
      replicationcontrollers/scale serviceaccounts services services/status
  read: bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas
      resourcequotas/status
  read: namespaces
  read @core,events.k8s.io: events
  read @discovery.k8s.io: endpointslices
  read @apps: controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status
      replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
  read @autoscaling: horizontalpodautoscalers horizontalpodautoscalers/status
  read @batch: cronjobs cronjobs/status jobs jobs/status
  read @extensions: daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses
      ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale
  read @policy: poddisruptionbudgets poddisruptionbudgets/status
  read @networking.k8s.io: ingresses ingresses/status networkpolicies
  read @resource.k8s.io: resourceclaims resourceclaims/status resourceclaimtemplates
system:aggregated-metrics-reader +view
  read @metrics.k8s.io: nodes pods
system:auth-delegator
  create @authentication.k8s.io: tokenreviews
  create @authorization.k8s.io: subjectaccessreviews
system:basic-user
  create @authorization.k8s.io: selfsubjectaccessreviews selfsubjectrulesreviews
  create @authentication.k8s.io: selfsubjectreviews
system:certificates.k8s.io:certificatesigningrequests:nodeclient
  create @certificates.k8s.io: certificatesigningrequests/nodeclient
system:certificates.k8s.io:certificatesigningrequests:selfnodeclient
  create @certificates.k8s.io: certificatesigningrequests/selfnodeclient
system:certificates.k8s.io:kube-apiserver-client-approver
  approve @certificates.k8s.io: signers [kubernetes.io/kube-apiserver-client]
system:certificates.k8s.io:kube-apiserver-client-kubelet-approver
  approve @certificates.k8s.io: signers [kubernetes.io/kube-apiserver-client-kubelet]
system:certificates.k8s.io:kubelet-serving-approver
  approve @certificates.k8s.io: signers [kubernetes.io/kubelet-serving]
system:certificates.k8s.io:legacy-unknown-approver
  approve @certificates.k8s.io: signers [kubernetes.io/legacy-unknown]
system:cluster-trust-bundle-discovery
  read @certificates.k8s.io: clustertrustbundles
system:discovery
  get: /api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/
system:heapster
  read: events namespaces nodes pods
  read @extensions: deployments
system:kube-aggregator
  read: endpoints services
system:kube-controller-manager
  create patch update @core,events.k8s.io: events
  create @coordination.k8s.io: leases
  get update @coordination.k8s.io: leases [kube-controller-manager]
  create: secrets serviceaccounts
  delete: secrets
  get: configmaps namespaces secrets serviceaccounts
  update: secrets serviceaccounts
  create @authentication.k8s.io: tokenreviews
  create @authorization.k8s.io: subjectaccessreviews
  list watch @*: *
  create: serviceaccounts/token
system:kube-dns
  list watch: endpoints services
system:kube-scheduler
  create patch update @core,events.k8s.io: events
  create @coordination.k8s.io: leases
  read update @coordination.k8s.io: leases [kube-scheduler]
  all @coordination.k8s.io: leasecandidates
  read: nodes
  read delete: pods
  create: bindings pods/binding
  patch update: pods/status
  read: replicationcontrollers services
  read @apps,extensions: replicasets
  read @apps: statefulsets
  read @policy: poddisruptionbudgets
  read: persistentvolumeclaims persistentvolumes
  create @authentication.k8s.io: tokenreviews
  create @authorization.k8s.io: subjectaccessreviews
  read @storage.k8s.io: csinodes
  read @storage.k8s.io: volumeattachments
  read: namespaces
  read @storage.k8s.io: csidrivers
  read @storage.k8s.io: csistoragecapacities
  read @resource.k8s.io: deviceclasses
  read patch update @resource.k8s.io: resourceclaims
  read patch update @resource.k8s.io: resourceclaims/status
  update: pods/finalizers
  read @resource.k8s.io: resourceslices
  create delete @resource.k8s.io: resourceclaims
  read @resource.k8s.io: devicetaintrules
  patch update @resource.k8s.io: resourceclaims/binding
system:kubelet-api-admin
  read: nodes
  proxy: nodes
  *: nodes/log nodes/metrics nodes/proxy nodes/stats
  *: nodes/configz nodes/healthz nodes/pods
system:monitoring
  get: /flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz
  get: nodes/metrics
system:node
  create @authentication.k8s.io: tokenreviews
  create @authorization.k8s.io: localsubjectaccessreviews subjectaccessreviews
  read: services
  read create: nodes
  patch update: nodes/status
  patch update: nodes
  create patch update @core,events.k8s.io: events
  read: pods
  create delete: pods
  patch update: pods/status
  create: pods/eviction
  read: configmaps secrets
  get: persistentvolumeclaims persistentvolumes
  get: endpoints
  read create @certificates.k8s.io: certificatesigningrequests
  create delete get patch update @coordination.k8s.io: leases
  get @storage.k8s.io: volumeattachments
  create: serviceaccounts/token
  get patch update: persistentvolumeclaims/status
  read @storage.k8s.io: csidrivers
  create delete get patch update @storage.k8s.io: csinodes
  read @node.k8s.io: runtimeclasses
  get @resource.k8s.io: resourceclaims
  deletecollection @resource.k8s.io: resourceslices
  read @certificates.k8s.io: clustertrustbundles
  get: serviceaccounts
  read create @certificates.k8s.io: podcertificaterequests
system:node-bootstrapper
  read create @certificates.k8s.io: certificatesigningrequests
system:node-problem-detector
  get: nodes
  patch: nodes/status
  create patch update @core,events.k8s.io: events
system:node-proxier
  list watch: endpoints services
  read: nodes
  create patch update @core,events.k8s.io: events
  list watch @networking.k8s.io: servicecidrs
  list watch @discovery.k8s.io: endpointslices
system:persistent-volume-provisioner
  read create delete: persistentvolumes
  read update: persistentvolumeclaims
  read @storage.k8s.io: storageclasses
  watch: events
  create patch update @core,events.k8s.io: events
system:public-info-viewer
  get: /healthz /livez /readyz /version /version/
system:service-account-issuer-discovery
  get: /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/
system:volume-scheduler
  read patch update: persistentvolumes
  read @storage.k8s.io: storageclasses
  read patch update: persistentvolumeclaims
view +edit <view
"""

# In a namespace: `namespace/role`.
ROLES = """
kube-public/system:controller:bootstrap-signer
  read: configmaps
  update: configmaps [cluster-info]
  create patch update @core,events.k8s.io: events
kube-system/extension-apiserver-authentication-reader
  read: configmaps [extension-apiserver-authentication]
kube-system/system::leader-locking-kube-controller-manager
  read create update @coordination.k8s.io: leases
  read create update @coordination.k8s.io: leasecandidates
kube-system/system::leader-locking-kube-scheduler
  read create update @coordination.k8s.io: leases
  read create update @coordination.k8s.io: leasecandidates
kube-system/system:controller:bootstrap-signer
  read: secrets
kube-system/system:controller:cloud-provider
  read create: configmaps
kube-system/system:controller:token-cleaner
  read delete: secrets
  create patch update @core,events.k8s.io: events
"""

# Binding, `= role` where that is named otherwise, and subjects; in a namespace where the name has one.
BINDINGS = """
cluster-admin: group:system:masters
system:basic-user: group:system:authenticated
system:cluster-trust-bundle-discovery: group:system:serviceaccounts
system:discovery: group:system:authenticated
system:kube-controller-manager: user:system:kube-controller-manager
system:kube-dns: sa:kube-system/kube-dns
system:kube-scheduler: user:system:kube-scheduler
system:monitoring: group:system:monitoring
system:node:
system:node-proxier: user:system:kube-proxy
system:public-info-viewer: group:system:authenticated group:system:unauthenticated
system:service-account-issuer-discovery: group:system:serviceaccounts
system:volume-scheduler: user:system:kube-scheduler
kube-public/system:controller:bootstrap-signer: sa:kube-system/bootstrap-signer
kube-system/system::extension-apiserver-authentication-reader = extension-apiserver-authentication-reader:
      user:system:kube-controller-manager user:system:kube-scheduler
kube-system/system::leader-locking-kube-controller-manager: user:system:kube-controller-manager
      sa:kube-system/kube-controller-manager sa:kube-system/leader-election-controller
kube-system/system::leader-locking-kube-scheduler: user:system:kube-scheduler sa:kube-system/kube-scheduler
kube-system/system:controller:bootstrap-signer: sa:kube-system/bootstrap-signer
kube-system/system:controller:cloud-provider: sa:kube-system/cloud-provider
kube-system/system:controller:token-cleaner: sa:kube-system/token-cleaner
"""
