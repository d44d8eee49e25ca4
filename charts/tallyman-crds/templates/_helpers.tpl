{{/* Labels of every resource type. */}}
{{- define "tallyman-crds.labels" -}}
app.kubernetes.io/name: tallyman
app.kubernetes.io/component: crds
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Annotations of every resource type, as a map; it may be empty. */}}
{{- define "tallyman-crds.annotations" -}}
{{- $annotations := deepCopy .Values.annotations }}
{{- if .Values.keep }}
{{- $_ := set $annotations "helm.sh/resource-policy" "keep" }}
{{- end }}
{{- toYaml $annotations }}
{{- end }}
