# An account a part, each with the least it needs. GitHub deploys without any key, by its own identity.

resource "google_service_account" "part" {
  for_each = {
    api       = "Serves the API"
    etl       = "Runs the ETL, the worker and backfills"
    migrate   = "Migrates the database"
    scheduler = "Starts the jobs"
    deploy    = "Deploys from GitHub"
  }
  account_id   = "kasparro-${each.key}"
  display_name = each.value
  depends_on   = [google_project_service.needed]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "kasparro"
  location      = var.region
  format        = "DOCKER"
  docker_config {
    immutable_tags = true
  }
  depends_on = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool" "github" {
  workload_identity_pool_id = "kasparro-github"
  depends_on                = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  workload_identity_pool_id          = google_iam_workload_identity_pool.github.workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_condition                = "assertion.repository_id == '${var.repository.id}' && assertion.ref == 'refs/heads/main'"
  attribute_mapping = {
    "google.subject"          = "assertion.sub"
    "attribute.repository_id" = "assertion.repository_id"
  }
  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github" {
  service_account_id = google_service_account.part["deploy"].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github.name}/attribute.repository_id/${var.repository.id}"
}

resource "google_artifact_registry_repository_iam_member" "deploy" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.part["deploy"].member
}

resource "google_cloud_run_v2_service_iam_member" "deploy" {
  for_each = google_cloud_run_v2_service.api
  name     = each.value.name
  location = var.region
  role     = "roles/run.developer"
  member   = google_service_account.part["deploy"].member
}

# Asking for /health, where the API is not public.
resource "google_cloud_run_v2_service_iam_member" "health" {
  for_each = google_cloud_run_v2_service.api
  name     = each.value.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.part["deploy"].member
}

resource "google_cloud_run_v2_job_iam_member" "deploy" {
  for_each = google_cloud_run_v2_job.part
  name     = each.value.name
  location = var.region
  role     = "roles/run.developer"
  member   = google_service_account.part["deploy"].member
}

# Deploying a revision means acting as the account it runs as.
resource "google_service_account_iam_member" "deploy" {
  for_each           = toset(["api", "etl", "migrate"])
  service_account_id = google_service_account.part[each.key].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.part["deploy"].member
}
