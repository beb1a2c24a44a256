{{/* A list of CEL strings; JSON's are strings in CEL as well. */}}
{{- define "yellowjack.celList" -}}
[{{ range $i, $s := . }}{{ if $i }}, {{ end }}{{ $s | toJson }}{{ end }}]
{{- end -}}

{{- define "yellowjack.celInGroups" -}}
request.userInfo.groups.exists(g, g in {{ include "yellowjack.celList" . }})
{{- end -}}

{{/* The quarantine label of `object` or `oldObject`; a blank, which no label can be, where there is none. */}}
{{- define "yellowjack.celQuarantine" -}}
({{ . }} == null ? ' ' : {{ . }}.metadata.?labels[?'yellowjack.dev/quarantine'].orValue(' '))
{{- end -}}

{{/* The label of the run of `object` or `oldObject`; a blank where there is none. */}}
{{- define "yellowjack.celRun" -}}
({{ . }} == null ? ' ' : {{ . }}.metadata.?labels[?'yellowjack.dev/run'].orValue(' '))
{{- end -}}

{{/* The cell of `object` or `oldObject` in its run; a blank where there is none. */}}
{{- define "yellowjack.celCell" -}}
({{ . }} == null ? ' ' : {{ . }}.metadata.?labels[?'yellowjack.dev/cell'].orValue(' '))
{{- end -}}

{{/* Whether `object` or `oldObject` is one that the controller makes, or has the name of one. */}}
{{- define "yellowjack.celOurs" -}}
({{ . }} != null && ({{ . }}.metadata.?labels[?'app.kubernetes.io/managed-by'].orValue('') == 'yellowjack' || {{ . }}.metadata.?name.orValue('') == 'yellowjack-quarantine' || {{ . }}.metadata.?name.orValue('').startsWith('yellowjack-quarantine-') || {{ . }}.metadata.?name.orValue('').startsWith('yellowjack-run-')))
{{- end -}}

{{- define "yellowjack.policyHead" -}}
{{- $fullname := include "yellowjack.fullname" .root -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $fullname }}-{{ .name }}
  labels:
    {{- include "yellowjack.labels" .root | nindent 4 }}
spec:
  policyName: {{ $fullname }}-{{ .name }}
  validationActions: {{ toJson .root.Values.admissionPolicies.validationActions }}
  {{- with .paramRef }}
  paramRef:
    {{- toYaml . | nindent 4 }}
  {{- end }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ $fullname }}-{{ .name }}
  labels:
    {{- include "yellowjack.labels" .root | nindent 4 }}
{{- end -}}
