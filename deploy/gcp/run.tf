# The API as a service; migration, ETL, worker and backfill as jobs; Cloud Scheduler starts the two that recur.

locals {
  running = var.images == null ? toset([]) : toset(["api"])
  common = {
    ETL_INTERVAL_MINUTES = tostring(var.interval_minutes)
    LOG_FORMAT           = "json"
  }
  hours = var.interval_minutes / 60

  # Secrets come as files: NAME_FILE names the path. The value is the secret's name.
  etl_files = merge(
    { DATABASE_URL = "etl-database-url" },
    { for name in nonsensitive(keys(var.upstream_keys)) : name => lower(replace(name, "_", "-")) },
  )
  jobs = {
    # The addresses of the two roles are only mounted, for the command names them as files.
    migrate = {
      account = "migrate", tasks = 1, retries = 3, timeout = "3600s"
      args    = ["migrate", "--etl-role", "/secrets/etl-database-url/value", "--api-role", "/secrets/api-database-url/value"]
      files   = { DATABASE_URL = "owner-database-url", ETL_ADDRESS = "etl-database-url", API_ADDRESS = "api-database-url" }
    }
    etl = {
      account = "etl", tasks = 1, retries = 2, timeout = "14400s"
      args    = ["run", "--source", var.sources, "--trigger", "cron", "--if-locked=skip"]
      files   = local.etl_files
    }
    worker = {
      account = "etl", tasks = 1, retries = 0, timeout = "14400s"
      args    = ["worker", "--once"]
      files   = local.etl_files
    }
    # The range is given when it is started: gcloud run jobs execute kasparro-backfill --args=backfill,--source,coinpaprika,…
    backfill = {
      account = "etl", tasks = var.backfill_tasks, retries = 5, timeout = "86400s"
      args    = ["backfill", "--help"]
      files   = local.etl_files
    }
  }
  schedules = {
    etl    = local.hours == 24 ? "7 0 * * *" : "7 */${local.hours} * * *"
    worker = "*/5 * * * *"
  }
}

resource "google_cloud_run_v2_service" "api" {
  for_each            = local.running
  name                = "kasparro-api"
  location            = var.region
  deletion_protection = false

  template {
    service_account                  = google_service_account.part["api"].email
    max_instance_request_concurrency = 16
    timeout                          = "300s"
    scaling {
      min_instance_count = var.api_instances.min
      max_instance_count = var.api_instances.max
    }
    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = google_compute_network.main.name
        subnetwork = google_compute_subnetwork.run.name
      }
    }
    containers {
      image = var.images.api
      ports {
        container_port = 8000
      }
      resources {
        limits = { cpu = "1", memory = "512Mi" }
      }
      dynamic "env" {
        for_each = merge(local.common, {
          API_DATABASE_URL_FILE = "/secrets/api-database-url/value"
          API_KEY_FILE          = "/secrets/api-key/value"
          API_TRUSTED_PROXIES   = "1"
        })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "volume_mounts" {
        for_each = toset(["api-database-url", "api-key"])
        content {
          name       = volume_mounts.key
          mount_path = "/secrets/${volume_mounts.key}"
        }
      }
      startup_probe {
        period_seconds    = 2
        failure_threshold = 30
        http_get {
          path = "/health/live"
        }
      }
      liveness_probe {
        period_seconds  = 10
        timeout_seconds = 5
        http_get {
          path = "/health/live"
        }
      }
    }
    dynamic "volumes" {
      for_each = toset(["api-database-url", "api-key"])
      content {
        name = volumes.key
        secret {
          secret = google_secret_manager_secret.main[volumes.key].secret_id
          items {
            version = "latest"
            path    = "value"
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version, template[0].containers[0].image] # the workflow deploys new images
  }
  depends_on = [google_secret_manager_secret_iam_member.reader, google_secret_manager_secret_version.main]
}

resource "google_cloud_run_v2_job" "part" {
  for_each            = { for name, job in local.jobs : name => job if var.images != null }
  name                = "kasparro-${each.key}"
  location            = var.region
  deletion_protection = false

  template {
    task_count  = each.value.tasks
    parallelism = each.value.tasks
    template {
      service_account = google_service_account.part[each.value.account].email
      max_retries     = each.value.retries
      timeout         = each.value.timeout
      vpc_access {
        egress = "PRIVATE_RANGES_ONLY"
        network_interfaces {
          network    = google_compute_network.main.name
          subnetwork = google_compute_subnetwork.run.name
        }
      }
      containers {
        image = var.images.etl
        args  = each.value.args
        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }
        dynamic "env" {
          for_each = merge(local.common, { for name, secret in each.value.files : "${name}_FILE" => "/secrets/${secret}/value" })
          content {
            name  = env.key
            value = env.value
          }
        }
        dynamic "volume_mounts" {
          for_each = toset(values(each.value.files))
          content {
            name       = volume_mounts.key
            mount_path = "/secrets/${volume_mounts.key}"
          }
        }
      }
      dynamic "volumes" {
        for_each = toset(values(each.value.files))
        content {
          name = volumes.key
          secret {
            secret = google_secret_manager_secret.main[volumes.key].secret_id
            items {
              version = "latest"
              path    = "value"
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version, template[0].template[0].containers[0].image]
  }
  depends_on = [google_secret_manager_secret_iam_member.reader, google_secret_manager_secret_version.main]
}

resource "google_cloud_run_v2_service_iam_member" "public" {
  for_each = var.public ? google_cloud_run_v2_service.api : {}
  name     = each.value.name
  location = var.region
  role     = "roles/run.invoker"
  member   = "allUsers"
}

resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  for_each = { for name, job in google_cloud_run_v2_job.part : name => job if contains(keys(local.schedules), name) }
  name     = each.value.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.part["scheduler"].member
}

resource "google_cloud_scheduler_job" "part" {
  for_each  = { for name, job in google_cloud_run_v2_job.part : name => job if contains(keys(local.schedules), name) }
  name      = "kasparro-${each.key}"
  region    = var.region
  schedule  = local.schedules[each.key]
  time_zone = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${each.value.id}:run"
    oauth_token {
      service_account_email = google_service_account.part["scheduler"].email
    }
  }
  retry_config {
    retry_count = 3
  }
  depends_on = [google_cloud_run_v2_job_iam_member.scheduler]
}
