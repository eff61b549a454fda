module gochat.example/constructs

go 1.25
