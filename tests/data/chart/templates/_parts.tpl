{{- define "image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{- define "account" -}}
{{ .Values.global.serviceAccountName | default .Values.serviceAccount.name | default .Release.Name }}
{{- end -}}

{{- define "code-account" -}}
{{- $code := index .Values "dagster-user-deployments" -}}
{{ .Values.global.serviceAccountName | default $code.serviceAccount.name | default (printf "%s-user-deployments" .Release.Name) }}
{{- end -}}

{{- define "postgres-host" -}}
{{- if .Values.postgresql.enabled -}}{{ .Release.Name }}-postgresql{{- else -}}{{ .Values.postgresql.postgresqlHost }}{{- end -}}
{{- end -}}

{{- define "password" -}}
- name: DAGSTER_PG_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.global.postgresqlSecretName | quote }}, key: postgresql-password}
{{- end -}}

{{- define "storage" -}}
postgres_db:
  username: {{ .Values.postgresql.postgresqlUsername }}
  password: {env: DAGSTER_PG_PASSWORD}
  hostname: {{ include "postgres-host" . | quote }}
  db_name: {{ .Values.postgresql.postgresqlDatabase }}
  port: {{ .Values.postgresql.service.port }}
{{- end -}}

{{- /* The configuration of a code location that its runs get too. */ -}}
{{- define "container-context" -}}
{{- $ := index . 0 -}}
{{- with index . 1 -}}
k8s:
  image_pull_policy: {{ .image.pullPolicy }}
  namespace: {{ $.Release.Namespace }}
  service_account_name: {{ include "code-account" $ }}
  env_config_maps:
    - {{ $.Release.Name }}-{{ .name }}-user-env
    {{- range .envConfigMaps }}
    - {{ .name }}
    {{- end }}
  {{- with (index $.Values "dagster-user-deployments").imagePullSecrets }}
  image_pull_secrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if .envSecrets }}
  env_secrets:
    {{- range .envSecrets }}
    - {{ .name }}
    {{- end }}
  {{- end }}
  {{- with .env }}
  env: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .volumes }}
  volumes: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .volumeMounts }}
  volume_mounts: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .labels }}
  labels: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with .resources }}
  resources: {{ toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
