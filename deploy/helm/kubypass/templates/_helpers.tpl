{{- /* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "kubypass.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "kubypass.labels" -}}
k8s-app: kubypass
app.kubernetes.io/name: kubypass
{{- end }}

{{- define "kubypass.apiServerNeeded" -}}
{{- if and (not .Values.k8sServiceHost) (ne (get .Values.config "kube-proxy-replacement") "false") -}}
{{- fail "k8sServiceHost is not set: expected an API server's own address or name as nodes reach it (not the service address, which kubypass itself serves); `kubectl cluster-info` prints it: --set k8sServiceHost=ADDRESS --set k8sServicePort=PORT" -}}
{{- end -}}
{{- end }}
