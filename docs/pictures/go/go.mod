module gochat.example/traced

go 1.25
