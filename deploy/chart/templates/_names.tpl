{{- define "pywaypoint.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* host:port of the authority that signs workload certificates, as an argument of a program: Kubernetes replaces the
namespace, so that kustomize can choose another. */ -}}
{{- define "pywaypoint.ca" -}}
{{ .Values.ca.address | default "pywaypoint-ca.$(POD_NAMESPACE).svc:15012" }}
{{- end }}

{{- /* Where ztunnels know the mesh from; empty for the API server. */ -}}
{{- define "pywaypoint.discovery" -}}
{{- if and .Values.discovery.serve .Values.ca.address -}}
{{- fail "discovery.serve needs an empty ca.address: the controller serves discovery where it signs" -}}
{{- end -}}
{{- if .Values.ztunnel.discovery.address -}}
{{ .Values.ztunnel.discovery.address }}
{{- else if .Values.discovery.serve -}}
{{ include "pywaypoint.ca" . }}
{{- end -}}
{{- end }}

{{- /* The same for waypoints. */ -}}
{{- define "pywaypoint.waypointDiscovery" -}}
{{- $server := include "pywaypoint.discovery" . -}}
{{- if and .Values.waypoints.discovery (not $server) -}}
{{- fail "waypoints.discovery needs a server: discovery.serve or ztunnel.discovery.address" -}}
{{- end -}}
{{- if .Values.waypoints.discovery -}}
{{ $server }}
{{- end -}}
{{- end }}

{{- /* Labels of an object. Call it with (list $ COMPONENT). */ -}}
{{- define "pywaypoint.labels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/part-of: pywaypoint
app.kubernetes.io/version: {{ $.Values.image.tag | default $.Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version }}
{{- end }}

{{- define "pywaypoint.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/instance: {{ $.Release.Name }}
{{- end }}

{{- /* Settings that all programs share, and those of one, as environment variables. Call it with (list $ VALUES). */ -}}
{{- define "pywaypoint.env" -}}
{{- $ := index . 0 -}}
- {name: TRUST_DOMAIN, value: {{ $.Values.trustDomain | quote }}}
- {name: CLUSTER_DOMAIN, value: {{ $.Values.clusterDomain | quote }}}
- {name: CLUSTER_ID, value: {{ $.Values.clusterId | quote }}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
- {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
- {name: INSTANCE_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
{{- range $name, $value := (index . 1).env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "pywaypoint.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The probe of a program at its readiness port. */ -}}
{{- define "pywaypoint.probe" -}}
readinessProbe:
  httpGet: {path: /healthz/ready, port: {{ . }}}
  periodSeconds: 2
  failureThreshold: 3
{{- end }}
