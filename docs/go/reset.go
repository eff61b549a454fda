package constructs

// show
func sayTooBig(c conn) {
	c.WriteMessage(8, []byte{0x03, 0xf1}) // 1009
	c.Close()                             // at once
}
