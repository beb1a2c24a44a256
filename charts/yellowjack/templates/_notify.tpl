{{/* Flags, volumes and mounts of the controller for who is told of Incidents. */}}
{{- define "yellowjack.hasReceivers" -}}
{{- if or .Values.notify.alertmanager.urls .Values.notify.webhook.url -}}true{{- end -}}
{{- end -}}

{{- define "yellowjack.notifyArgs" -}}
{{- if include "yellowjack.hasReceivers" . }}
- {{ printf "--notify-min-level=%s" .Values.notify.minLevel | quote }}
{{- with .Values.notify.clusterName }}
- {{ printf "--cluster-name=%s" . | quote }}
{{- end }}
{{- range .Values.notify.alertmanager.urls }}
- {{ printf "--alertmanager=%s" . | quote }}
{{- end }}
{{- if .Values.notify.webhook.url }}
- {{ printf "--webhook=%s" .Values.notify.webhook.url | quote }}
- "--webhook-secret-file=/etc/yellowjack/webhook/secret"
- {{ printf "--webhook-format=%s" .Values.notify.webhook.format | quote }}
{{- end }}
{{- if .Values.notify.caConfigMap }}
- "--notify-ca-file=/etc/yellowjack/receivers/ca.crt"
{{- end }}
{{- end }}
{{- end -}}

{{- define "yellowjack.notifyMounts" -}}
{{- if .Values.notify.webhook.url }}
- { name: webhook, mountPath: /etc/yellowjack/webhook, readOnly: true }
{{- end }}
{{- if and (include "yellowjack.hasReceivers" .) .Values.notify.caConfigMap }}
- { name: receivers, mountPath: /etc/yellowjack/receivers, readOnly: true }
{{- end }}
{{- end -}}

{{- define "yellowjack.notifyVolumes" -}}
{{- if .Values.notify.webhook.url }}
# The kubelet reads it: the controller itself may read no Secret.
- name: webhook
  secret:
    secretName: {{ .Values.notify.webhook.secretName }}
    items: [{ key: {{ .Values.notify.webhook.secretKey | quote }}, path: secret }]
    defaultMode: 0444
{{- end }}
{{- if and (include "yellowjack.hasReceivers" .) .Values.notify.caConfigMap }}
- name: receivers
  configMap:
    name: {{ .Values.notify.caConfigMap }}
    items: [{ key: ca.crt, path: ca.crt }]
{{- end }}
{{- end -}}
