module lesson

go 1.21
