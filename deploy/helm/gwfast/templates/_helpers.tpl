{{/* The name of everything of one-process mode, of the controller, and of the ServiceAccount. */}}
{{- define "gwfast.name" -}}
{{- if eq .Values.mode "controller" }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}-controller{{ else }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "gwfast.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "gwfast.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "gwfast.selector" -}}
app.kubernetes.io/name: {{ ternary "gwfast-controller" "gwfast-gateway" (eq .Values.mode "controller") }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gwfast.labels" -}}
{{ include "gwfast.selector" . }}
app.kubernetes.io/part-of: gwfast
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "gwfast.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Options as arguments, in the order of their names. */}}
{{- define "gwfast.options" -}}
{{- range $name, $value := . }}
{{- if kindIs "bool" $value }}
{{- if $value }}
- --{{ $name }}
{{- end }}
{{- else }}
- --{{ $name }}
- {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a Pod has besides its containers: values of `controller` or `oneProcess`. */}}
{{- define "gwfast.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "gwfast.own" -}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- end }}

{{- define "gwfast.probes" -}}
readinessProbe: {httpGet: {path: /readyz, port: admin}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
livenessProbe: {httpGet: {path: /healthz, port: admin}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
{{- end }}

{{- define "gwfast.spread" -}}
topologySpreadConstraints:
{{- with .given }}
{{ toYaml . }}
{{- else }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "gwfast.selector" .root | nindent 6 }}
{{- end }}
{{- end }}
