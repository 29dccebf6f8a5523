variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where everything runs."
  type        = string
  default     = "europe-west1"
}

variable "images" {
  description = "The images to run: etl and api, each with its digest. Empty before the first push: only what the push needs is made."
  type        = object({ etl = string, api = string })
  default     = null
}

variable "repository" {
  description = "The GitHub repository that may deploy, as OWNER/NAME, and its numeric id: a name can be taken over, an id cannot."
  type        = object({ name = string, id = string })
}

variable "interval_minutes" {
  description = "ETL_INTERVAL_MINUTES: how often the ETL runs; a source without success for two intervals is late. A divisor of 1440 from 60 on."
  type        = number
  default     = 360
  validation {
    condition     = var.interval_minutes >= 60 && var.interval_minutes % 60 == 0 && 1440 % var.interval_minutes == 0
    error_message = "Expected 60, 120, 180, 240, 360, 480, 720 or 1440."
  }
}

variable "sources" {
  description = "What the ETL runs. csv needs a volume with files."
  type        = string
  default     = "coinpaprika,coingecko,rss"
}

variable "upstream_keys" {
  description = "Keys of upstreams that ask for one: COINPAPRIKA_API_KEY, COINGECKO_API_KEY."
  type        = map(string)
  default     = {}
  sensitive   = true
}

variable "public" {
  description = "Whether everybody may read the API; otherwise callers need roles/run.invoker."
  type        = bool
  default     = false
}

variable "api_instances" {
  description = "The fewest and the most instances of the API; each holds up to 16 connections."
  type        = object({ min = number, max = number })
  default     = { min = 1, max = 4 }
}

variable "backfill_tasks" {
  description = "Tasks of a backfill that share its chunks."
  type        = number
  default     = 4
}

variable "database" {
  description = "The Cloud SQL instance: machine, whether it has a standby in another zone, whether it may be deleted."
  type        = object({ tier = string, standby = bool, protected = bool })
  default     = { tier = "db-custom-1-3840", standby = false, protected = true }
}
