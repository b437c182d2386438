{{/* The value of app.kubernetes.io/name. */}}
{{- define "oaat-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of all objects. Some add a suffix to it, so it is shorter than 63 characters. The name of
a release may contain dots, but that of a Service may not. */}}
{{- define "oaat-operator.fullname" -}}
{{- $name := include "oaat-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "oaat-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "oaat-operator.fullname" .) -}}
{{- end -}}

{{/* The name of the Role for Leases. It has a suffix if the operator serves its own namespace, where
another Role already has the name of all objects. */}}
{{- define "oaat-operator.leaseRoleName" -}}
{{- include "oaat-operator.fullname" . -}}
{{- if has .Release.Namespace .Values.namespaces -}}-leases{{- end -}}
{{- end -}}

{{/* The labels that select the operator's pods. A selector cannot be changed after it was created,
so these must stay the same in all versions of the chart. */}}
{{- define "oaat-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "oaat-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "oaat-operator.labels" -}}
{{ include "oaat-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{- end -}}

{{- define "oaat-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Rejects combinations of values that the schema cannot reject, with a useful message. */}}
{{- define "oaat-operator.validate" -}}
{{- if not (or .Values.crds.install .Values.crds.keep) -}}
{{- fail "crds.keep: must be true because crds.install is false; otherwise, Helm could delete all groups" -}}
{{- end -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.name: required because serviceAccount.create is false" -}}
{{- end -}}
{{- if and (gt (int .Values.shards) 1) (not .Values.leaderElection) -}}
{{- fail (printf "leaderElection: must be true because shards is %d" (int .Values.shards)) -}}
{{- end -}}
{{- $own := include "oaat-operator.labels" . | fromYaml -}}
{{- range $part, $values := pick .Values.metrics "serviceMonitor" "prometheusRule" "dashboard" -}}
{{- range $label, $_ := $values.labels -}}
{{- if hasKey $own $label -}}
{{- fail (printf "metrics.%s.labels: the chart sets %s; remove this label" $part $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $volumes := list -}}
{{- range .Values.volumes }}{{ $volumes = append $volumes .name }}{{ end -}}
{{- range .Values.volumeMounts -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "volumeMounts: %q is not in volumes; add a volume with this name, or remove the mount" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The rules of the operator, in a ClusterRole or in a Role for each namespace. */}}
{{- define "oaat-operator.rules" -}}
- apiGroups: [kawaja.net]
  resources: [oaatgroups, oaattypes]
  verbs: [get, list, watch]
- apiGroups: [kawaja.net]
  resources: [oaatgroups/status, oaattypes/status]
  verbs: [patch]
# Needed to set blockOwnerDeletion if OwnerReferencesPermissionEnforcement is enabled.
- apiGroups: [kawaja.net]
  resources: [oaatgroups/finalizers]
  verbs: [update]
# The patch verb is needed to remove the scheduling gate from the one pod that may run.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
# Needed to read the output of pods that list items (itemsFrom.container, itemsFrom.http).
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Needed for policies and item lists. In each namespace where a group references a ConfigMap, the
# operator watches the metadata of all ConfigMaps. It reads only the referenced ones.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Needed to check whether a namespace is being deleted.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* The subject of all bindings. */}}
{{- define "oaat-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "oaat-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
