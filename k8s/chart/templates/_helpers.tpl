{{- define "swarmirror.name" -}}
{{- if .Values.nameOverride -}}
{{ .Values.nameOverride }}
{{- else if contains "swarmirror" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-swarmirror" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "swarmirror.selector" -}}
app.kubernetes.io/name: swarmirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "swarmirror.labels" -}}
{{ include "swarmirror.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "swarmirror.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What the distribution says, over what it says for all; and the paths of the values over that. */ -}}
{{- define "swarmirror.node" -}}
{{- $all := .Files.Get "distributions.yaml" | fromYaml -}}
{{- mergeOverwrite (dict) $all.none (get $all .Values.distribution) .Values.paths | toYaml -}}
{{- end }}

{{- define "swarmirror.secret" -}}
{{ .Values.swarmKey.existingSecret | default (include "swarmirror.name" .) }}
{{- end }}

{{- /* The key of the swarm: what the Secret has, or else a new one, the same wherever it is asked for in one rendering. */ -}}
{{- define "swarmirror.key" -}}
{{- if not (hasKey .Values "madeKey") -}}
{{- $name := include "swarmirror.name" . -}}
{{- $entry := .Values.swarmKey.entry -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace $name | default dict -}}
{{- $key := get ($secret.data | default dict) $entry | b64dec -}}
{{- if and (not $key) $secret -}}
{{- fail (printf "the Secret %s has no entry %s, which would hold the key of the swarm" $name $entry) -}}
{{- end -}}
{{- if not (or $key (lookup "v1" "Namespace" "" "kube-system")) -}}
{{- fail "there is no cluster here that could keep the key of the swarm: make a Secret with it, and set swarmKey.existingSecret to its name" -}}
{{- end -}}
{{- /* 32 bytes in base64url. */ -}}
{{- $_ := set .Values "madeKey" ($key | default (randBytes 32 | replace "+" "-" | replace "/" "_" | trimSuffix "=")) -}}
{{- end -}}
{{ .Values.madeKey }}
{{- end }}

{{- /* A setting as the mirror reads it: YAML makes booleans of `on` and `off`, and lists are written with commas. */ -}}
{{- define "swarmirror.setting" -}}
{{- if kindIs "bool" . -}}
{{ ternary "on" "off" . }}
{{- else if kindIs "slice" . -}}
{{ join "," . }}
{{- else if kindIs "float64" . -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{- /* The settings of the values, with what follows from the distribution. One that is null is not given. */ -}}
{{- define "swarmirror.settings" -}}
{{- $node := include "swarmirror.node" . | fromYaml -}}
{{- $settings := dict -}}
{{- range $name, $value := .Values.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $settings $name $value -}}
{{- end -}}
{{- end -}}
{{- if and $node.registries (not (hasKey $settings "registries")) -}}
{{- $_ := set $settings "registries" $node.registries -}}
{{- end -}}
{{- /* Registries that have a directory of their own are mirrored as all others are. */ -}}
{{- if not (or (hasKey $settings "registries") (hasKey $settings "also")) -}}
{{- $_ := set $settings "also" "all" -}}
{{- end -}}
{{- if and $node.rewritesHosts (not (hasKey $settings "manage-hosts")) -}}
{{- $_ := set $settings "manage-hosts" true -}}
{{- end -}}
{{- $settings | toYaml -}}
{{- end }}

{{- define "swarmirror.environment" -}}
{{- $settings := .settings -}}
{{- with .root -}}
{{- $node := include "swarmirror.node" . | fromYaml -}}
- name: SWARMIRROR_ADVERTISE_HOST
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: SWARMIRROR_LISTEN
  value: 127.0.0.1:{{ .Values.ports.registry }}
# The node's address in the cluster, and no other address.
- name: SWARMIRROR_PEER_LISTEN
  value: $(SWARMIRROR_ADVERTISE_HOST):{{ .Values.ports.peer }}
- name: SWARMIRROR_ADMIN_LISTEN
  value: 127.0.0.1:{{ .Values.ports.admin }}
{{- if .Values.metrics.enabled }}
- name: SWARMIRROR_METRICS_LISTEN
  value: $(SWARMIRROR_ADVERTISE_HOST):{{ .Values.ports.metrics }}
{{- end }}
- name: SWARMIRROR_SWARM_KEY_FILE
  value: /etc/swarmirror/swarm.key
- name: SWARMIRROR_DATA_DIR
  value: /var/lib/swarmirror
- name: SWARMIRROR_CONTAINERD_SOCKET
  value: {{ $node.socket }}
- name: SWARMIRROR_CONTAINERD_CONFIG
  value: {{ $node.config }}
- name: SWARMIRROR_CERTS_DIR
  value: {{ $node.certs }}
{{- if not (hasKey $settings "bootstrap") }}
# Every node with a pod.
- name: SWARMIRROR_BOOTSTRAP
  value: dns:{{ include "swarmirror.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.ports.peer }}
{{- end }}
{{- range $name, $value := $settings }}
- name: SWARMIRROR_{{ $name | upper | replace "-" "_" }}
  value: {{ include "swarmirror.setting" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Root, since containerd's socket and content belong to root; without any capability. */ -}}
{{- define "swarmirror.confined" -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* What the pods of the mirror and those of its removal have in common: which nodes, and as what. */ -}}
{{- define "swarmirror.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# The node's own network: containerd asks on the node's loopback, even before the pods' network exists.
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.seLinuxOptions | default (include "swarmirror.node" . | fromYaml).seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* The container that tells containerd of the mirror, or takes that back, by the settings given. */ -}}
{{- define "swarmirror.hosts" -}}
{{- $node := include "swarmirror.node" .root | fromYaml -}}
- name: hosts
  image: {{ include "swarmirror.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ toJson .args }}
  env:
    {{- include "swarmirror.environment" . | nindent 4 }}
  resources:
    {{- toYaml .root.Values.resources | nindent 4 }}
  securityContext:
    {{- include "swarmirror.confined" .root | nindent 4 }}
  volumeMounts:
    - name: certs
      mountPath: {{ $node.certs }}
{{- end }}

{{- define "swarmirror.certsVolume" -}}
- name: certs
  # The only place on the node that pods write: hosts.toml files.
  hostPath:
    path: {{ (include "swarmirror.node" . | fromYaml).certs }}
    type: DirectoryOrCreate
{{- end }}
