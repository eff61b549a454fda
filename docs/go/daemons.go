package constructs

// show
func mainReturns(work func()) {
	go work()
	// The process ends here, even if work has not returned.
}
