{{/* Name of what is created cluster-wide, unique to the release. */}}
{{- define "tallyman.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* Labels that the operators' pods are selected by. */}}
{{- define "tallyman.selectorLabels" -}}
app.kubernetes.io/name: tallyman
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "tallyman.labels" -}}
{{ include "tallyman.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tallyman.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* Secrets of the operator's Kubernetes namespace that it may read, as a JSON list: those of CounterClasses, and its own. */}}
{{- define "tallyman.secretNames" -}}
{{- $names := .Values.class.secretNames }}
{{- if .Values.class.create }}
{{- $cassandra := default dict .Values.class.spec.cassandra }}
{{- $tls := default dict $cassandra.tls }}
{{- $names = concat $names (list $cassandra.adminCredentialsSecretName $tls.caSecretName) }}
{{- end }}
{{- concat $names (include "tallyman.ownSecretNames" . | fromJsonArray) | compact | uniq | sortAlpha | toJson }}
{{- end }}

{{/* The Secrets that the operator makes for itself, as a JSON list. */}}
{{- define "tallyman.ownSecretNames" -}}
{{- $names := list "tallyman-operator-key" }}
{{- if eq .Values.webhook.certificates "self" }}
{{- $names = append $names "tallyman-webhook-certificates" }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{- define "tallyman.webhooks" -}}
{{- if or .Values.webhook.injection.enabled .Values.webhook.validation.enabled }}true{{ end }}
{{- end }}

{{/* Which Kubernetes namespaces the webhooks are called for. */}}
{{- define "tallyman.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{ concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
  {{- with .Values.watchNamespaces }}
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ toJson . }}
  {{- end }}
{{- end }}

{{/* Annotations of the webhook configurations, below `metadata`. */}}
{{- define "tallyman.webhookAnnotations" -}}
{{- if eq .Values.webhook.certificates "cert-manager" }}
  annotations:
    cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/tallyman-webhook
{{- end }}
{{- end }}

{{/* What the operator does in the Kubernetes namespaces that it serves: rules of a ClusterRole, or of a Role in each of watchNamespaces. */}}
{{- define "tallyman.rules.served" -}}
# What is asked for. (controller: watch, dereference)
- apiGroups: [tallyman.dev]
  resources: [counternamespaces]
  verbs: [get, list, watch]
# The finalizer of CounterNamespaces whose tables go with them, set and taken off. (controller: deletion)
- apiGroups: [tallyman.dev]
  resources: [counternamespaces]
  verbs: [patch, update]
# Owner references that hold up the owner's deletion, on clusters that check for it (OwnerReferencesPermissionEnforcement). (apply)
- apiGroups: [tallyman.dev]
  resources: [counternamespaces/finalizers]
  verbs: [update]
# What was found and done. (update_status)
- apiGroups: [tallyman.dev]
  resources: [counternamespaces/status]
  verbs: [patch]
# Documents of namespaces, compared, written and pruned. (apply)
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Services of the rollup servers and of the cache. (apply)
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Rollup servers and memcached. (apply, update_status)
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# Their disruption budgets. (apply)
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Their network policies. (apply)
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Credentials and certificates of the data plane. Neither list nor watch: Secrets are read by the names that the operator gave them. (apply)
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
# Pods that should have a sidecar and have none, or an old one. (update_status: SidecarsCurrent)
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Events on CounterNamespaces, and on pods that were given no sidecar. (controller, webhook)
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What the operator does with cluster-wide objects. */}}
{{- define "tallyman.rules.cluster" -}}
# The platform team's side of what is asked for. (controller: watch, dereference)
- apiGroups: [tallyman.dev]
  resources: [counterclasses]
  verbs: [get, list, watch]
# Whether a class can be used. (update_status)
- apiGroups: [tallyman.dev]
  resources: [counterclasses/status]
  verbs: [patch]
{{- if eq .Values.webhook.certificates "self" }}
# The certificate authority of its own webhooks. (webhook: certificates)
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations, validatingwebhookconfigurations]
  resourceNames: [{{ include "tallyman.name" . }}]
  verbs: [get, patch]
{{- end }}
{{- end }}
