{{- define "yellowjack.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "yellowjack.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Not `yellowjack`: that value of managed-by marks what the controller makes, and the admission policies guard it. */}}
{{- define "yellowjack.labels" -}}
{{ include "yellowjack.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "yellowjack.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "yellowjack.controllerAccount" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "yellowjack.fullname" . }}-controller
{{- end -}}

{{- define "yellowjack.nodeAccount" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "yellowjack.fullname" . }}-node
{{- end -}}

{{- define "yellowjack.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{ default (include "yellowjack.fullname" .) .Values.priorityClass.name }}
{{- else -}}
{{ .Values.priorityClass.name }}
{{- end -}}
{{- end -}}

{{/* directory, file and format of the egress log, as YAML. */}}
{{- define "yellowjack.source" -}}
{{- $presets := dict
  "hubble-file" (dict "directory" "/var/run/cilium/hubble" "file" "events.log" "format" "hubble")
  "ulogd" (dict "directory" "/var/log/ulogd" "file" "ulogd.json" "format" "ulogd")
  "calico" (dict "directory" "/var/log/calico/flowlogs" "file" "flows.log" "format" "calico")
  "file" (dict "directory" "" "file" "" "format" "")
  "hubble-relay" (dict "directory" "" "file" "" "format" "")
-}}
{{- $preset := get $presets .Values.source.preset -}}
{{- range $key := list "directory" "file" "format" }}
{{ $key }}: {{ default (get $preset $key) (get $.Values.source $key) | quote }}
{{- end -}}
{{- end -}}

{{/* A relay is one for the whole cluster: the controller reads it, and there are no agents. */}}
{{- define "yellowjack.hasRelay" -}}
{{- if eq .Values.source.preset "hubble-relay" -}}true{{- end -}}
{{- end -}}

{{- define "yellowjack.hasAgents" -}}
{{- if and .Values.node.enabled (not (include "yellowjack.hasRelay" .)) -}}true{{- end -}}
{{- end -}}

{{- define "yellowjack.controllerReads" -}}
{{- if or .Values.controller.sources (include "yellowjack.hasRelay" .) -}}true{{- end -}}
{{- end -}}

{{/* The flags of the relay. */}}
{{- define "yellowjack.relayArgs" -}}
{{- with .Values.source.relay -}}
- {{ printf "--source=hubble-relay:%s%s" (ternary "https://" "" (ne .tlsSecret "")) .address | quote }}
- "--checkpoint-dir=/checkpoints"
{{- if .tlsSecret }}
- "--relay-ca=/etc/yellowjack/relay/ca.crt"
{{- with .serverName }}
- {{ printf "--relay-server-name=%s" . | quote }}
{{- end }}
{{- if .clientCertificate }}
- "--relay-cert=/etc/yellowjack/relay/tls.crt"
- "--relay-key=/etc/yellowjack/relay/tls.key"
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "yellowjack.hasLists" -}}
{{- if or .Values.detection.poolList .Values.detection.tunnelList .Values.detection.starterLists -}}true{{- end -}}
{{- end -}}

{{/* A change of a list restarts the pods that read it. */}}
{{- define "yellowjack.listsHash" -}}
{{- $starter := ternary (list (.Files.Get "files/starter/pools.txt") (.Files.Get "files/starter/tunnels.txt")) (list) .Values.detection.starterLists -}}
{{- toJson (list .Values.detection.poolList .Values.detection.tunnelList $starter) | sha256sum | trunc 16 -}}
{{- end -}}

{{/* Flags that controller and agent share: both must reckon with the same budget, lists and ranges. */}}
{{- define "yellowjack.sharedArgs" -}}
- {{ printf "--listen=%s:%d" .Values.listenHost (int .Values.port) | quote }}
- {{ printf "--log=%s" .Values.log.filter | quote }}
- {{ printf "--log-format=%s" .Values.log.format | quote }}
- {{ printf "--stale-after=%s" .Values.source.staleAfter | quote }}
- {{ printf "--budget-false-quarantines=%v" .Values.detection.falseQuarantinesPerDay | quote }}
- {{ printf "--budget-pods=%d" (int .Values.detection.pods) | quote }}
- {{ printf "--agent-namespace=%s" .Release.Namespace | quote }}
{{- if .Values.observeOnly }}
- "--observe-all"
{{- end }}
{{- range .Values.cluster.podCidrs }}
- {{ printf "--pod-cidr=%s" . | quote }}
{{- end }}
{{- range .Values.cluster.serviceCidrs }}
- {{ printf "--service-cidr=%s" . | quote }}
{{- end }}
{{- range .Values.cluster.nodeCidrs }}
- {{ printf "--node-cidr=%s" . | quote }}
{{- end }}
{{- if .Values.detection.poolList }}
- "--pool-list=/etc/yellowjack/lists/pools.txt"
{{- end }}
{{- if .Values.detection.tunnelList }}
- "--tunnel-list=/etc/yellowjack/lists/tunnels.txt"
{{- end }}
{{- if .Values.detection.starterLists }}
- "--starter-pool-list=/etc/yellowjack/lists/starter-pools.txt"
- "--starter-tunnel-list=/etc/yellowjack/lists/starter-tunnels.txt"
{{- end }}
{{- end -}}

{{- define "yellowjack.probes" -}}
startupProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /livez, port: http }
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
{{- end -}}

{{- define "yellowjack.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: [ALL]
{{- end -}}
