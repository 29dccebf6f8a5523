output "url" {
  description = "Where the API answers."
  value       = one([for service in google_cloud_run_v2_service.api : service.uri])
}

output "registry" {
  description = "Where images are pushed to."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "github" {
  description = "What the deploying workflow needs as variables of the GitHub repository."
  value = {
    GCP_PROJECT           = var.project
    GCP_REGION            = var.region
    GCP_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github.name
    GCP_SERVICE_ACCOUNT   = google_service_account.part["deploy"].email
    API_URL               = one([for service in google_cloud_run_v2_service.api : service.uri])
  }
}
