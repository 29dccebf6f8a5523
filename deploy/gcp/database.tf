# Postgres, and one secret for each role's address. The roles of the ETL and of the API are made by `kasparro-etl migrate`:
# a user made by the provider would be a member of cloudsqlsuperuser.

locals {
  roles = toset(["owner", "etl", "api"])
}

resource "google_sql_database_instance" "main" {
  name                = "kasparro"
  database_version    = "POSTGRES_17"
  deletion_protection = var.database.protected

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.database.tier
    availability_type           = var.database.standby ? "REGIONAL" : "ZONAL"
    deletion_protection_enabled = var.database.protected
    disk_autoresize             = true

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
      start_time                     = "03:00"
    }
    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.main.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }
    insights_config {
      query_insights_enabled = true
    }
    maintenance_window {
      day  = 7
      hour = 4
    }
    database_flags {
      name  = "max_connections"
      value = "100"
    }
    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "main" {
  name     = "kasparro"
  instance = google_sql_database_instance.main.name
}

resource "random_password" "role" {
  for_each = local.roles
  length   = 40
  special  = false # no character that an address would need to escape
}

resource "google_sql_user" "owner" {
  name     = "kasparro_owner"
  instance = google_sql_database_instance.main.name
  password = random_password.role["owner"].result
}

resource "random_password" "api_key" {
  length  = 40
  special = false
}

locals {
  secrets = merge(
    {
      for role in local.roles : "${role}-database-url" => format(
        "postgresql://kasparro_%s:%s@%s:5432/kasparro?sslmode=require",
        role, random_password.role[role].result, google_sql_database_instance.main.private_ip_address
      )
    },
    { "api-key" = random_password.api_key.result },
    { for name, value in var.upstream_keys : lower(replace(name, "_", "-")) => value },
  )
  # Which account reads which secret, and nothing else.
  readers = merge(
    { for role in local.roles : "migrate ${role}-database-url" => { account = "migrate", secret = "${role}-database-url" } },
    {
      "etl etl-database-url" = { account = "etl", secret = "etl-database-url" }
      "api api-database-url" = { account = "api", secret = "api-database-url" }
      "api api-key"          = { account = "api", secret = "api-key" }
    },
    {
      for name in nonsensitive(keys(var.upstream_keys)) :
      "etl ${name}" => { account = "etl", secret = lower(replace(name, "_", "-")) }
    },
  )
}

resource "google_secret_manager_secret" "main" {
  for_each  = nonsensitive(toset(keys(local.secrets)))
  secret_id = "kasparro-${each.key}"
  replication {
    auto {}
  }
  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_version" "main" {
  for_each    = google_secret_manager_secret.main
  secret      = each.value.id
  secret_data = local.secrets[each.key]
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each  = local.readers
  secret_id = google_secret_manager_secret.main[each.value.secret].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.part[each.value.account].member
}
